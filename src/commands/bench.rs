//! `equimod bench`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use equimod_core::Normalisation;
use equimod_data::resample::{Filter, resize};
use equimod_data::{
    Batch, Dataset, FolderDataset, Image, LayoutConfig, Loader, LoaderConfig, MemoryDataset, ParamLayout, Pixels,
    Policy, Size, view_rng,
};
use serde_json::json;

use crate::cli::{Bench, BenchArgs, BenchAugment, BenchCommand};
use crate::output;

/// Pictures in a batch: what a thread takes at a time.
const BATCH: usize = 20;

/// Measures what was asked for.
pub fn run(arguments: &Bench) -> anyhow::Result<ExitCode> {
    let BenchCommand::Augment { what } = &arguments.command;
    let (name, dataset, policy, normalisation, arguments, count) = match what {
        BenchAugment::Cifar(arguments) => {
            let policy = Policy::built_in("simclr-cifar10", 32)?;
            ("cifar", small_pictures()?, policy, Normalisation::CIFAR10, arguments, 20_000)
        }
        BenchAugment::Folder { dir, arguments } => {
            let policy = Policy::built_in("simclr-imagenet", 224)?;
            ("folder", folder(dir)?, policy, Normalisation::IMAGENET, arguments, 400)
        }
    };
    let images = arguments.images.unwrap_or(count).max(BATCH);
    let threads = rayon::current_num_threads();
    let rate = measure(dataset, policy, normalisation, images)?;
    print(arguments, name, images, threads, rate)?;
    Ok(ExitCode::SUCCESS)
}

fn print(arguments: &BenchArgs, name: &str, images: usize, threads: usize, rate: f64) -> anyhow::Result<()> {
    if arguments.json {
        let rounded = (rate * 10.0).round() / 10.0;
        let found = json!({ "what": "equimod", "pipeline": name, "images": images, "threads": threads, "images_per_s": rounded });
        return output::result(&found.to_string());
    }
    output::result(&format!("{name}: {rate:.1} images/s, three views each, {threads} threads, {images} images"))
}

/// Smooth noise of 32 × 32.
fn small_pictures() -> anyhow::Result<Arc<dyn Dataset>> {
    use rand::RngCore;
    let mut rng = view_rng(0, 0, 0, 0);
    let picture = |_| {
        let mut pixels = vec![0; 8 * 8 * 3];
        rng.fill_bytes(&mut pixels);
        Ok(resize(&Image::new(Size::square(8), pixels)?, Size::square(32), Filter::Bicubic))
    };
    let pictures = (0..2000).map(picture).collect::<equimod_data::Result<Vec<Image>>>()?;
    Ok(Arc::new(MemoryDataset::new("noise", pictures)?))
}

fn folder(dir: &Path) -> anyhow::Result<Arc<dyn Dataset>> {
    Ok(Arc::new(FolderDataset::open(dir)?))
}

/// Images a second.
fn measure(
    dataset: Arc<dyn Dataset>,
    policy: Policy,
    normalisation: Normalisation,
    images: usize,
) -> anyhow::Result<f64> {
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &dataset.sample_sizes(1000)?)?;
    let batch = BATCH.min(dataset.len());
    let config = LoaderConfig { batch, clean: true, ..LoaderConfig::default() };
    let loader = Loader::new(dataset, policy, layout, &config)?;
    let work = |number: usize| -> anyhow::Result<f32> {
        let batch = loader.batch((number / loader.batches()) as u64, number % loader.batches())?;
        Ok(normalised(&batch, &normalisation))
    };
    work(0)?;
    let (batches, next) = (images.div_ceil(batch), AtomicUsize::new(0));
    let start = Instant::now();
    // In the pool's own threads, so that a thread is all that one thread uses.
    let done = rayon::broadcast(|_| -> anyhow::Result<()> {
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                number if number < batches => std::hint::black_box(work(number)?),
                _ => return Ok(()),
            };
        }
    });
    done.into_iter().collect::<anyhow::Result<()>>()?;
    Ok((batches * batch) as f64 / start.elapsed().as_secs_f64())
}

/// Every view as f32, normalised; something of it, so that the work is not left out.
fn normalised(batch: &Batch, normalisation: &Normalisation) -> f32 {
    let views = batch.clean.iter().chain(&batch.views);
    views
        .map(|pixels: &Pixels| normalisation.planes(&pixels.bytes, pixels.size.area()).iter().step_by(997).sum::<f32>())
        .sum()
}
