//! `equimod bench augment`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use equimod_core::Normalisation;
use equimod_data::resample::{Filter, resize};
use equimod_data::{
    Batch, Dataset, Image, LayoutConfig, Loader, LoaderConfig, MemoryDataset, ParamLayout, Pixels, Policy, Size,
    clean_view, view_rng,
};
use serde_json::json;

use crate::cli::{Augmented, BenchAugment};
use crate::output;
use crate::sources::all_images;

/// Pictures in a batch: what a thread takes at a time.
const BATCH: usize = 20;

/// Pictures of which the time of each part is taken.
const PARTS_OF: usize = 200;

/// Measures what was asked for.
pub fn run(arguments: &BenchAugment) -> anyhow::Result<ExitCode> {
    let (name, dataset, policy, normalisation, count) = match arguments.what.as_ref().unwrap_or(&Augmented::Cifar) {
        Augmented::Cifar => {
            let policy = Policy::built_in("simclr-cifar10", 32)?;
            ("cifar", small_pictures()?, policy, Normalisation::CIFAR10, 20_000)
        }
        Augmented::Folder { dir } => {
            let policy = Policy::built_in("simclr-imagenet", 224)?;
            ("folder", all_images(dir)?, policy, Normalisation::IMAGENET, 400)
        }
    };
    let images = arguments.images.unwrap_or(count) as usize;
    let threads = rayon::current_num_threads();
    let (images, rate) = measure(dataset.clone(), policy.clone(), normalisation, images)?;
    let parts = parts(dataset.as_ref(), &policy, &normalisation)?;
    print(arguments, name, images, threads, rate, &parts)?;
    Ok(ExitCode::SUCCESS)
}

fn print(
    arguments: &BenchAugment,
    name: &str,
    images: usize,
    threads: usize,
    rate: f64,
    parts: &[(&'static str, f64)],
) -> anyhow::Result<()> {
    if arguments.json {
        let rounded = (rate * 10.0).round() / 10.0;
        let parts: serde_json::Map<_, _> = parts.iter().map(|(part, us)| ((*part).into(), json!(us))).collect();
        let found = json!({
            "what": "equimod", "pipeline": name, "images": images, "threads": threads, "images_per_s": rounded,
            "microseconds_per_image": parts,
        });
        return output::result(&found.to_string());
    }
    let mut text = format!("{name}: {rate:.1} images/s, three views each, {threads} threads, {images} images\n");
    let all: f64 = parts.iter().map(|(_, us)| us).sum();
    text += "microseconds an image, one thread, by part:\n";
    for (part, us) in parts {
        text += &format!("  {part:22} {us:9.1}  {:4.1} %\n", 100.0 * us / all);
    }
    output::result(text.trim_end())
}

/// Microseconds that each part takes of an image's three views, in one thread.
fn parts(
    dataset: &dyn Dataset,
    policy: &Policy,
    normalisation: &Normalisation,
) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let layout = ParamLayout::new(policy, &LayoutConfig::default(), &dataset.sample_sizes(PARTS_OF)?)?;
    let mut clock = Clock::default();
    let count = PARTS_OF.min(dataset.len());
    for sample in 0..count {
        let image = clock.time("decode", || dataset.image(sample))?;
        let mut pictures = vec![clock.time("clean view", || clean_view(&image, &policy.clean))];
        for (number, view) in policy.views.iter().enumerate() {
            let params = clock.time("sample and encode", || {
                let params = view.sample(image.size(), &mut view_rng(0, 0, sample as u64, number as u64));
                let mut values = Vec::with_capacity(layout.width());
                layout.encode(view, &params, image.size(), &mut values);
                params
            });
            let mut picture = image.clone();
            for (augmentation, params) in view.0.iter().zip(&params.0) {
                picture = clock.time(augmentation.name(), || augmentation.as_augmentation().apply(picture, params));
            }
            pictures.push(picture);
        }
        for picture in pictures {
            clock.time("normalise", || normalisation.planes(picture.pixels(), picture.size().area()));
        }
    }
    Ok(clock.0.into_iter().map(|(part, time)| (part, time.as_secs_f64() * 1e6 / count as f64)).collect())
}

/// Time by part, in the order of their first appearance.
#[derive(Default)]
struct Clock(Vec<(&'static str, Duration)>);

impl Clock {
    fn time<T>(&mut self, part: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = std::hint::black_box(work());
        let time = start.elapsed();
        match self.0.iter_mut().find(|(known, _)| *known == part) {
            Some((_, sum)) => *sum += time,
            None => self.0.push((part, time)),
        }
        done
    }
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

/// How many images were taken, which is whole batches, and how many a second.
fn measure(
    dataset: Arc<dyn Dataset>,
    policy: Policy,
    normalisation: Normalisation,
    images: usize,
) -> anyhow::Result<(usize, f64)> {
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
    Ok((batches * batch, (batches * batch) as f64 / start.elapsed().as_secs_f64()))
}

/// Every view as f32, normalised; something of it, so that the work is not left out.
fn normalised(batch: &Batch, normalisation: &Normalisation) -> f32 {
    let views = batch.clean.iter().chain(&batch.views);
    views
        .map(|pixels: &Pixels| normalisation.planes(&pixels.bytes, pixels.size.area()).iter().step_by(997).sum::<f32>())
        .sum()
}
