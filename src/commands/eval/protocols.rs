//! From the arguments of a protocol on one model to its settings.

use equimod_core::OptimizerConfig;
use equimod_core::optim::{AdamWConfig, SgdConfig};
use equimod_eval::evaluation::{
    EquivarianceProtocol, FewShotProtocol, FinetuneProtocol, HealthProtocol, ParameterProtocol, RetrievalProtocol,
};
use equimod_eval::finetune::{BatchNormStatistics, FinetuneConfig};
use equimod_eval::knn::KnnConfig;
use equimod_eval::linear::LinearConfig;
use equimod_eval::logistic::{LogisticConfig, l2_strengths};

use equimod_eval::Protocol;

use crate::cli::{
    CropKind, Equivariance, EvalArgs, EvalCommand, FewShot, Finetune, FinetuneOptimizer, Health, Knn, Linear, Logistic,
    Params, Retrieval,
};
use crate::process::exit::Usage;

/// A protocol with the arguments of its evaluation.
pub struct Chosen<'a> {
    /// Arguments of every protocol.
    pub arguments: &'a EvalArgs,
    /// Default crop of the protocol.
    pub crop: CropKind,
    /// Protocol with its settings.
    pub protocol: Box<dyn Protocol>,
}

fn chosen(arguments: &EvalArgs, crop: CropKind, protocol: impl Protocol + 'static) -> anyhow::Result<Chosen<'_>> {
    Ok(Chosen { arguments, crop, protocol: Box::new(protocol) })
}

/// The protocol of a command on one model; `None` for commands on several models.
pub fn of(command: &EvalCommand) -> anyhow::Result<Option<Chosen<'_>>> {
    Ok(Some(match command {
        EvalCommand::Logistic(arguments) => logistic(arguments)?,
        EvalCommand::Knn(arguments) => knn(arguments)?,
        EvalCommand::Linear(arguments) => linear(arguments)?,
        EvalCommand::Finetune(arguments) => finetune(arguments)?,
        EvalCommand::FewShot(arguments) => few_shot(arguments)?,
        EvalCommand::Equivariance(arguments) => equivariance(arguments)?,
        EvalCommand::Params(arguments) => params(arguments)?,
        EvalCommand::Retrieval(arguments) => retrieval(arguments)?,
        EvalCommand::Health(arguments) => health(arguments)?,
        EvalCommand::Transfer(_) | EvalCommand::Compare(_) => return Ok(None),
    }))
}

/// `eval knn`.
fn knn(arguments: &Knn) -> anyhow::Result<Chosen<'_>> {
    let config = KnnConfig { k: arguments.k as usize, temperature: arguments.temperature };
    chosen(&arguments.common, CropKind::Center, config)
}

/// `eval logistic`.
fn logistic(arguments: &Logistic) -> anyhow::Result<Chosen<'_>> {
    let config = LogisticConfig {
        l2_strengths: l2_strengths(arguments.l2_strengths as usize),
        select_by_class: arguments.by_class,
        ..Default::default()
    };
    chosen(&arguments.common, CropKind::Center, config)
}

/// `eval linear`.
fn linear(arguments: &Linear) -> anyhow::Result<Chosen<'_>> {
    let config = LinearConfig {
        epochs: arguments.epochs as usize,
        batch: arguments.batch as usize,
        learning_rate: arguments.learning_rate,
        seed: arguments.common.seed,
        threads: rayon::current_num_threads(),
        ..Default::default()
    };
    chosen(&arguments.common, CropKind::Inset, config)
}

/// `eval finetune`.
fn finetune(arguments: &Finetune) -> anyhow::Result<Chosen<'_>> {
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
    chosen(&arguments.common, CropKind::Inset, protocol)
}

/// `eval few-shot`.
fn few_shot(arguments: &FewShot) -> anyhow::Result<Chosen<'_>> {
    let mut protocol = FewShotProtocol {
        ways: arguments.ways as usize,
        queries: arguments.queries as usize,
        episodes: arguments.episodes as usize,
        ..Default::default()
    };
    if !arguments.shots.is_empty() {
        protocol.shots = arguments.shots.iter().map(|&shots| shots as usize).collect();
    }
    chosen(&arguments.common, CropKind::Center, protocol)
}

/// `eval equivariance`.
fn equivariance(arguments: &Equivariance) -> anyhow::Result<Chosen<'_>> {
    let (images, each_augmentation) = (arguments.images as usize, !arguments.overall);
    chosen(&arguments.common, CropKind::Center, EquivarianceProtocol { images, each_augmentation })
}

/// `eval params`.
fn params(arguments: &Params) -> anyhow::Result<Chosen<'_>> {
    chosen(&arguments.common, CropKind::Center, ParameterProtocol { images: arguments.images as usize })
}

/// `eval retrieval`.
fn retrieval(arguments: &Retrieval) -> anyhow::Result<Chosen<'_>> {
    let protocol = RetrievalProtocol { images: arguments.images as usize, views: arguments.views as usize };
    chosen(&arguments.common, CropKind::Center, protocol)
}

/// `eval health`.
fn health(arguments: &Health) -> anyhow::Result<Chosen<'_>> {
    chosen(&arguments.common, CropKind::Center, HealthProtocol { images: arguments.images as usize })
}
