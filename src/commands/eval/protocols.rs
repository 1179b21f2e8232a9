//! From the arguments of a protocol on one model to its settings.

use std::process::ExitCode;

use equimod_core::OptimizerConfig;
use equimod_core::optim::{AdamWConfig, SgdConfig};
use equimod_eval::evaluation::{
    EquivarianceProtocol, FewShotProtocol, FinetuneProtocol, HealthProtocol, ParameterProtocol, RetrievalProtocol,
};
use equimod_eval::finetune::{BatchNormStatistics, FinetuneConfig};
use equimod_eval::knn::KnnConfig;
use equimod_eval::linear::LinearConfig;
use equimod_eval::logistic::{LogisticConfig, l2_strengths};

use super::session::run;
use crate::cli::{
    CropKind, Equivariance, FewShot, Finetune, FinetuneOptimizer, Health, Knn, Linear, Logistic, Params, Retrieval,
};
use crate::process::exit::Usage;

/// `eval knn`.
pub fn knn(arguments: &Knn) -> anyhow::Result<ExitCode> {
    let config = KnnConfig { k: arguments.k as usize, temperature: arguments.temperature };
    run(&arguments.common, CropKind::Center, &config)
}

/// `eval logistic`.
pub fn logistic(arguments: &Logistic) -> anyhow::Result<ExitCode> {
    let config = LogisticConfig {
        l2_strengths: l2_strengths(arguments.l2_strengths as usize),
        select_by_class: arguments.by_class,
        ..Default::default()
    };
    run(&arguments.common, CropKind::Center, &config)
}

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
    run(&arguments.common, CropKind::Inset, &config)
}

/// `eval finetune`.
pub fn finetune(arguments: &Finetune) -> anyhow::Result<ExitCode> {
    if let Some(wrong) = arguments.labels.iter().find(|percent| !(**percent > 0.0 && **percent <= 100.0)) {
        return Err(Usage(format!("--labels {wrong} is not a share; give per cent above 0 and at most 100")).into());
    }
    let weight_decay = arguments.weight_decay;
    let settings = FinetuneConfig {
        optimizer: match arguments.optimizer {
            FinetuneOptimizer::Sgd => OptimizerConfig::Sgd(SgdConfig { weight_decay, ..Default::default() }),
            FinetuneOptimizer::Adamw => OptimizerConfig::AdamW(AdamWConfig { weight_decay, ..Default::default() }),
        },
        epochs: arguments.epochs as usize,
        warmup_epochs: arguments.warmup_epochs as usize,
        layer_decay: arguments.layer_decay,
        batch_norm: match arguments.frozen_batch_norm {
            true => BatchNormStatistics::Frozen,
            false => BatchNormStatistics::Batch,
        },
        seed: arguments.common.seed,
        threads: rayon::current_num_threads(),
        ..Default::default()
    };
    let mut protocol = FinetuneProtocol {
        batch: arguments.batch.map(|batch| batch as usize),
        learning_rate: arguments.learning_rate,
        settings,
        ..Default::default()
    };
    if !arguments.labels.is_empty() {
        protocol.label_fractions = arguments.labels.iter().map(|percent| percent / 100.0).collect();
    }
    run(&arguments.common, CropKind::Inset, &protocol)
}

/// `eval few-shot`.
pub fn few_shot(arguments: &FewShot) -> anyhow::Result<ExitCode> {
    let mut protocol = FewShotProtocol {
        ways: arguments.ways as usize,
        queries: arguments.queries as usize,
        episodes: arguments.episodes as usize,
        ..Default::default()
    };
    if !arguments.shots.is_empty() {
        protocol.shots = arguments.shots.iter().map(|&shots| shots as usize).collect();
    }
    run(&arguments.common, CropKind::Center, &protocol)
}

/// `eval equivariance`.
pub fn equivariance(arguments: &Equivariance) -> anyhow::Result<ExitCode> {
    let (images, each_augmentation) = (arguments.images as usize, !arguments.overall);
    run(&arguments.common, CropKind::Center, &EquivarianceProtocol { images, each_augmentation })
}

/// `eval params`.
pub fn params(arguments: &Params) -> anyhow::Result<ExitCode> {
    run(&arguments.common, CropKind::Center, &ParameterProtocol { images: arguments.images as usize })
}

/// `eval retrieval`.
pub fn retrieval(arguments: &Retrieval) -> anyhow::Result<ExitCode> {
    let protocol = RetrievalProtocol { images: arguments.images as usize, views: arguments.views as usize };
    run(&arguments.common, CropKind::Center, &protocol)
}

/// `eval health`.
pub fn health(arguments: &Health) -> anyhow::Result<ExitCode> {
    run(&arguments.common, CropKind::Center, &HealthProtocol { images: arguments.images as usize })
}
