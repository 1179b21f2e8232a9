//! `equimod bench augment`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use equimod_core::Normalization;
use equimod_data::resample::{Filter, resize};
use equimod_data::{
    Batch, Dataset, Image, LayoutConfig, Loader, LoaderConfig, MemoryDataset, ParamLayout, Pixels, Policy, Size,
    clean_view, view_rng,
};
use serde_json::json;

use crate::cli::{Augmented, BenchAugment};
use crate::inputs::sources::all_images;
use crate::outputs::console;

/// Batch size, which is the unit of work of a thread.
const BATCH: usize = 20;

/// Number of images for timing each stage.
const STAGES_OF: usize = 200;

/// Runs the benchmark.
///
/// # Errors
///
/// If the images cannot be read.
pub fn run(arguments: &BenchAugment) -> anyhow::Result<ExitCode> {
    let (name, dataset, policy, normalization, count) = match arguments.what.as_ref().unwrap_or(&Augmented::Cifar) {
        Augmented::Cifar => {
            let policy = Policy::built_in("simclr-cifar10", 32)?;
            ("cifar", small_images()?, policy, Normalization::CIFAR10, 20_000)
        }
        Augmented::Folder { dir } => {
            let policy = Policy::built_in("simclr-imagenet", 224)?;
            ("folder", all_images(dir)?, policy, Normalization::IMAGENET, 400)
        }
    };
    let images = arguments.images.unwrap_or(count) as usize;
    let threads = rayon::current_num_threads();
    let (images, rate) = measure(dataset.clone(), policy.clone(), normalization, images)?;
    let stages = stages(dataset.as_ref(), &policy, &normalization)?;
    print(arguments, name, images, threads, rate, &stages)?;
    Ok(ExitCode::SUCCESS)
}

fn print(
    arguments: &BenchAugment,
    name: &str,
    images: usize,
    threads: usize,
    rate: f64,
    stages: &[(&str, f64)],
) -> anyhow::Result<()> {
    if arguments.json {
        let rounded = (rate * 10.0).round() / 10.0;
        let stages: serde_json::Map<_, _> = stages.iter().map(|(stage, us)| ((*stage).into(), json!(us))).collect();
        let result = json!({
            "what": "equimod", "pipeline": name, "images": images, "threads": threads, "images_per_s": rounded,
            "microseconds_per_image": stages,
        });
        return console::result(&result.to_string());
    }
    let mut text = format!("{name}: {rate:.1} images/s, three views each, {threads} threads, {images} images\n");
    let all: f64 = stages.iter().map(|(_, us)| us).sum();
    text += "microseconds per image in one thread, by stage:\n";
    for (stage, us) in stages {
        text += &format!("  {stage:22} {us:9.1}  {:4.1} %\n", 100.0 * us / all);
    }
    console::result(text.trim_end())
}

/// Microseconds per image that each stage takes for all three views, in one thread.
fn stages<'a>(
    dataset: &dyn Dataset,
    policy: &'a Policy,
    normalization: &Normalization,
) -> anyhow::Result<Vec<(&'a str, f64)>> {
    let layout = ParamLayout::new(policy, &LayoutConfig::default(), &dataset.sample_sizes(STAGES_OF)?)?;
    let mut clock = Clock::default();
    let count = STAGES_OF.min(dataset.len());
    for sample in 0..count {
        let image = clock.time("decode", || dataset.image(sample))?;
        let mut views = vec![clock.time("clean view", || clean_view(&image, &policy.clean))];
        for (number, view) in policy.views.iter().enumerate() {
            let params = clock.time("sample and encode", || {
                let params = view.sample(image.size(), &mut view_rng(0, 0, sample as u64, number as u64));
                let mut values = Vec::with_capacity(layout.width());
                layout.encode(view, &params, image.size(), &mut values);
                params
            });
            let mut augmented = image.clone();
            for (augmentation, params) in view.0.iter().zip(&params.0) {
                augmented = clock.time(augmentation.name(), || augmentation.as_augmentation().apply(augmented, params));
            }
            views.push(augmented);
        }
        for view in views {
            clock.time("normalize", || normalization.planes(view.pixels(), view.size().area()));
        }
    }
    Ok(clock.0.into_iter().map(|(stage, time)| (stage, time.as_secs_f64() * 1e6 / count as f64)).collect())
}

/// Total time of each stage, in order of first appearance.
#[derive(Default)]
struct Clock<'a>(Vec<(&'a str, Duration)>);

impl<'a> Clock<'a> {
    fn time<T>(&mut self, stage: &'a str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = std::hint::black_box(work());
        let time = start.elapsed();
        match self.0.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, sum)) => *sum += time,
            None => self.0.push((stage, time)),
        }
        result
    }
}

/// Images of smooth noise, 32 × 32 pixels.
fn small_images() -> anyhow::Result<Arc<dyn Dataset>> {
    use rand::RngCore;
    let mut rng = view_rng(0, 0, 0, 0);
    let image = |_| {
        let mut pixels = vec![0; 8 * 8 * 3];
        rng.fill_bytes(&mut pixels);
        Ok(resize(&Image::new(Size::square(8), pixels)?, Size::square(32), Filter::Bicubic))
    };
    let images = (0..2000).map(image).collect::<equimod_data::Result<Vec<Image>>>()?;
    Ok(Arc::new(MemoryDataset::new("noise", images)?))
}

/// Number of processed images, rounded up to whole batches, and images per second.
fn measure(
    dataset: Arc<dyn Dataset>,
    policy: Policy,
    normalization: Normalization,
    images: usize,
) -> anyhow::Result<(usize, f64)> {
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &dataset.sample_sizes(1000)?)?;
    let batch = BATCH.min(dataset.len());
    let config = LoaderConfig { batch, clean: true, ..LoaderConfig::default() };
    let loader = Loader::new(dataset, policy, layout, &config)?;
    let process = |number: usize| -> anyhow::Result<f32> {
        let batch = loader.batch((number / loader.batches()) as u64, number % loader.batches())?;
        Ok(normalize(&batch, &normalization))
    };
    process(0)?;
    let (batches, next) = (images.div_ceil(batch), AtomicUsize::new(0));
    let start = Instant::now();
    // Runs in the threads of the pool, so that `--threads 1` uses exactly one thread.
    let results = rayon::broadcast(|_| -> anyhow::Result<()> {
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                number if number < batches => std::hint::black_box(process(number)?),
                _ => return Ok(()),
            };
        }
    });
    results.into_iter().collect::<anyhow::Result<()>>()?;
    Ok((batches * batch, (batches * batch) as f64 / start.elapsed().as_secs_f64()))
}

/// Converts every view to normalized f32, and returns a sum that keeps the work from being optimized away.
fn normalize(batch: &Batch, normalization: &Normalization) -> f32 {
    let views = batch.clean.iter().chain(&batch.views);
    views
        .map(|pixels: &Pixels| normalization.planes(&pixels.bytes, pixels.size.area()).iter().step_by(997).sum::<f32>())
        .sum()
}
