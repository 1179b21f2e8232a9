//! `equimod bench eval`.

use std::process::ExitCode;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use equimod_core::{Backbone, Execution, Mode, ParamStore, ResNet, ResNetConfig, SingleProcess};
use equimod_eval::knn::{KnnConfig, vote};
use equimod_eval::lbfgs::LbfgsConfig;
use equimod_eval::logistic::fit;
use equimod_eval::{Features, Labeled};
use serde_json::json;

use super::step::stem;
use crate::cli::BenchEval;
use crate::outputs::console;
use crate::process::device;

/// Batch size of the backbone.
const BATCH: usize = 128;
/// Number of classes of the random labels.
const CLASSES: usize = 10;
/// L2 strength and stopping criteria of the fit.
const L2_STRENGTH: f64 = 1.0;
const FIT: LbfgsConfig = LbfgsConfig { history: 20, iterations: 20, tolerance: 0.0, change: 0.0 };

/// Runs the benchmark: feature extraction, k-NN and a logistic regression.
///
/// # Errors
///
/// If the device is not available, or a tensor operation fails.
pub fn run(arguments: &BenchEval) -> anyhow::Result<ExitCode> {
    let device = device::open(&arguments.device.device)?;
    let start = Instant::now();
    let features = features(arguments, &device)?;
    let seconds = start.elapsed().as_secs_f64();
    let labels = (0..features.rows()).map(|row| (row % CLASSES) as u32).collect();
    let bank = Labeled::new(features, labels, CLASSES)?;
    let start = Instant::now();
    vote(&bank, &bank.features, &KnnConfig::default())?;
    let knn_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    fit(&bank, L2_STRENGTH, true, &FIT)?;
    let fit_seconds = start.elapsed().as_secs_f64();
    let images = bank.features.rows();
    let (threads, rate) = (rayon::current_num_threads(), images as f64 / seconds);
    if arguments.json {
        return console::result(
            &json!({
                "what": "equimod", "arch": arguments.arch.name(), "size": arguments.size, "width": arguments.width,
                "images": images, "features": bank.features.columns(), "threads": threads,
                "features_s": seconds, "images_per_s": rate, "knn_s": knn_seconds,
                "logistic_s": fit_seconds, "logistic_iterations": FIT.iterations,
            })
            .to_string(),
        )
        .map(|()| ExitCode::SUCCESS);
    }
    let columns = bank.features.columns();
    console::result(&format!(
        "{images} images, {columns} features, {threads} threads\n  \
         features  {seconds:9.3} s  {rate:.1} images/s\n  \
         k-NN      {knn_seconds:9.3} s  every image against all\n  \
         logistic  {fit_seconds:9.3} s  {} iterations, {CLASSES} classes",
        FIT.iterations
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Features of random images from an untrained backbone.
fn features(arguments: &BenchEval, device: &Device) -> anyhow::Result<Features> {
    let (side, width) = (arguments.size as usize, arguments.width as usize);
    let config = ResNetConfig { architecture: arguments.arch, stem: stem(arguments.size), width, ..Default::default() };
    let mut store = ParamStore::new(0, DType::F32, device);
    let backbone = ResNet::new(&config, Execution::default(), &SingleProcess::shared(), &mut store.root())?;
    let mut values = Vec::new();
    let images = arguments.images as usize;
    for first in (0..images).step_by(BATCH) {
        let noise = Tensor::randn(0f32, 1.0, (BATCH.min(images - first), 3, side, side), device)?;
        values.extend(backbone.infer(&noise, Mode::Eval)?.pooled.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(Features::new(images, backbone.features(), values)?)
}
