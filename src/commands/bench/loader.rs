//! `equimod bench loader`.

use std::process::ExitCode;
use std::time::Instant;

use crate::recipes::named;
use candle_core::Device;
use equimod_train::{TrainContext, Trainer};
use serde_json::json;

use crate::cli::BenchLoader;
use crate::inputs::sources::training;
use crate::outputs::console;

/// Number of warm-up batches: one more than are prefetched.
const WARM_UP: usize = 3;

/// Runs the benchmark: takes the batches of a recipe as training does, and discards them.
///
/// # Errors
///
/// If the recipe is not valid, or its images cannot be read.
pub fn run(arguments: &BenchLoader) -> anyhow::Result<ExitCode> {
    let (recipe, _) = named(arguments.recipe.name(), &arguments.recipe.settings())?;
    let reading = recipe.data.reading();
    let (dataset, source) = training(&recipe.data.source, reading)?;
    let threads = rayon::current_num_threads();
    let batch = recipe.data.batch;
    let trainer = Trainer::new(recipe, dataset, TrainContext::alone(Device::Cpu, threads, env!("CARGO_PKG_VERSION")))?;
    let views = if trainer.method().needs().clean_view { 3 } else { 2 };
    let mut batches = trainer.loader().start(0)?;
    let mut take = |count: usize| -> anyhow::Result<()> {
        for _ in 0..count {
            if let Some(batch) = batches.next().transpose()? {
                batches.recycle(batch);
            }
        }
        Ok(())
    };
    take(WARM_UP)?;
    let (count, start) = (arguments.batches as usize, Instant::now());
    take(count)?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = (count * batch) as f64 / seconds;
    if arguments.json {
        return console::result(
            &json!({
                "what": "equimod", "data": source, "batch": batch, "batches": count, "threads": threads,
                "seconds_per_batch": seconds / count as f64, "images_per_s": rate,
            })
            .to_string(),
        )
        .map(|()| ExitCode::SUCCESS);
    }
    let milliseconds = 1e3 * seconds / count as f64;
    console::result(&format!(
        "{rate:.1} images/s of {source}, {views} views each, {threads} threads; \
         {milliseconds:.2} ms per batch of {batch}"
    ))?;
    Ok(ExitCode::SUCCESS)
}
