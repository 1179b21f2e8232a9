//! Classifiers that are trained on pictures.

use std::process::ExitCode;

use equimod_core::OptimizerConfig;
use equimod_core::optim::{AdamWConfig, SgdConfig};
use equimod_eval::finetune::{BatchNormStatistics, FinetuneConfig};
use equimod_eval::linear::LinearConfig;

use super::classify::classified;
use crate::cli::{CropKind, Finetune, FinetuneOptimizer, Linear};
use crate::exit::Usage;

/// Shares of the labels that are fine-tuned on, in per cent.
const LABELS: [f64; 3] = [1.0, 10.0, 100.0];
/// Steps an epoch that batches of fine-tuning leave room for, and the least and most pictures of a batch.
const STEPS: usize = 40;
const BATCHES: (usize, usize) = (16, 256);

/// `eval linear`.
pub fn linear(arguments: &Linear) -> anyhow::Result<ExitCode> {
    let config = LinearConfig {
        epochs: arguments.epochs as usize,
        batch: arguments.batch as usize,
        learning_rate: arguments.learning_rate,
        seed: arguments.common.seed,
        threads: rayon::current_num_threads(),
        ..Default::default()
    };
    classified("linear", &arguments.common, CropKind::Inset, |evaluation, model| evaluation.linear(model, &config))
}

/// `eval finetune`.
pub fn finetune(arguments: &Finetune) -> anyhow::Result<ExitCode> {
    let labels = if arguments.labels.is_empty() { LABELS.to_vec() } else { arguments.labels.clone() };
    if let Some(wrong) = labels.iter().find(|percent| !(**percent > 0.0 && **percent <= 100.0)) {
        return Err(Usage(format!("--labels {wrong} is no share; give per cent above 0 and at most 100")).into());
    }
    let shares: Vec<f64> = labels.iter().map(|percent| percent / 100.0).collect();
    let weight_decay = arguments.weight_decay;
    let batch = |labelled: usize| {
        let fitting = (labelled / STEPS).clamp(BATCHES.0, BATCHES.1);
        arguments.batch.map_or(fitting, |batch| batch as usize)
    };
    let (optimizer, rate): (OptimizerConfig, fn(usize) -> f64) = match arguments.optimizer {
        FinetuneOptimizer::Sgd => (OptimizerConfig::Sgd(SgdConfig { weight_decay, ..Default::default() }), |batch| {
            0.05 * batch as f64 / 256.0
        }),
        FinetuneOptimizer::Adamw => {
            (OptimizerConfig::AdamW(AdamWConfig { weight_decay, ..Default::default() }), |_| 1e-3)
        }
    };
    let config = |labelled: usize| FinetuneConfig {
        optimizer: optimizer.clone(),
        learning_rate: arguments.learning_rate.unwrap_or_else(|| rate(batch(labelled))),
        epochs: arguments.epochs as usize,
        warmup_epochs: arguments.warmup_epochs as usize,
        batch: batch(labelled),
        layer_decay: arguments.layer_decay,
        batch_norm: match arguments.frozen_batch_norm {
            true => BatchNormStatistics::Frozen,
            false => BatchNormStatistics::Batch,
        },
        seed: arguments.common.seed,
        threads: rayon::current_num_threads(),
        ..Default::default()
    };
    classified("finetune", &arguments.common, CropKind::Inset, |evaluation, model| {
        evaluation.finetune(model, &config, &shares)
    })
}
