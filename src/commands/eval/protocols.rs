//! From the arguments of a protocol on one model to its settings.

use std::fmt::Display;

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
    /// Settings of the protocol that differ from its defaults, in words for the name of a folder.
    pub other: Vec<String>,
    /// Those that the metrics of the results name.
    pub in_metrics: Vec<String>,
    /// Those that `eval compare` takes, too, as its arguments.
    pub of_comparison: Vec<String>,
}

fn chosen<'a>(
    arguments: &'a EvalArgs,
    crop: CropKind,
    protocol: impl Protocol + 'static,
    other: impl IntoIterator<Item = Option<String>>,
) -> anyhow::Result<Chosen<'a>> {
    let other = other.into_iter().flatten().collect();
    Ok(Chosen {
        arguments,
        crop,
        protocol: Box::new(protocol),
        other,
        in_metrics: Vec::new(),
        of_comparison: Vec::new(),
    })
}

/// A setting in words, if it is not its default.
fn other<T: PartialEq + Display>(value: T, default: T, words: impl FnOnce(T) -> String) -> Option<String> {
    (value != default).then(|| words(value))
}

/// A number of images in words, if it is not the default.
fn images(value: usize, default: usize) -> Option<String> {
    other(value, default, |images| format!("{images}-images"))
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
    let (config, usual) =
        (KnnConfig { k: arguments.k as usize, temperature: arguments.temperature }, KnnConfig::default());
    let changed = [
        other(config.k, usual.k, |k| format!("k-{k}")),
        other(config.temperature, usual.temperature, |temperature| format!("temperature-{temperature}")),
    ];
    let k = other(config.k, usual.k, |k| k.to_string());
    let chosen = chosen(&arguments.common, CropKind::Center, config, changed)?;
    Ok(Chosen { of_comparison: option("--k", k), ..chosen })
}

/// An option with its value, if it has one.
fn option(name: &str, value: Option<String>) -> Vec<String> {
    value.into_iter().flat_map(|value| [name.to_owned(), value]).collect()
}

/// `eval logistic`.
fn logistic(arguments: &Logistic) -> anyhow::Result<Chosen<'_>> {
    let config = LogisticConfig {
        l2_strengths: l2_strengths(arguments.l2_strengths as usize),
        select_by_class: arguments.by_class,
        ..Default::default()
    };
    let strengths = other(config.l2_strengths.len(), LogisticConfig::default().l2_strengths.len(), |strengths| {
        strengths.to_string()
    });
    let changed =
        [strengths.as_ref().map(|count| format!("{count}-strengths")), arguments.by_class.then(|| "by-class".into())];
    let chosen = chosen(&arguments.common, CropKind::Center, config, changed)?;
    Ok(Chosen { of_comparison: option("--l2-strengths", strengths), ..chosen })
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
    let usual = LinearConfig::default();
    let changed = [
        other(config.epochs, usual.epochs, |epochs| format!("{epochs}-epochs")),
        other(config.batch, usual.batch, |batch| format!("batch-{batch}")),
        other(config.learning_rate, usual.learning_rate, |rate| format!("lr-{rate}")),
    ];
    chosen(&arguments.common, CropKind::Inset, config, changed)
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
    let usual = FinetuneConfig::default();
    let labels = (!arguments.labels.is_empty()).then(|| format!("labels-{}", joined(&arguments.labels)));
    let changed = [
        labels,
        other(arguments.epochs as usize, usual.epochs, |epochs| format!("{epochs}-epochs")),
        other(arguments.warmup_epochs as usize, usual.warmup_epochs, |epochs| format!("{epochs}-warmup")),
        arguments.batch.map(|batch| format!("batch-{batch}")),
        (arguments.optimizer == FinetuneOptimizer::Adamw).then(|| "adamw".into()),
        arguments.learning_rate.map(|rate| format!("lr-{rate}")),
        other(weight_decay, 0.0, |decay| format!("decay-{decay}")),
        other(arguments.layer_decay, usual.layer_decay, |decay| format!("layer-decay-{decay}")),
        arguments.frozen_batch_norm.then(|| "frozen-batch-norm".into()),
    ];
    chosen(&arguments.common, CropKind::Inset, protocol, changed)
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
    let usual = FewShotProtocol::default();
    let in_metrics = [
        other(protocol.ways, usual.ways, |ways| format!("{ways}-ways")),
        (protocol.shots != usual.shots).then(|| format!("{}-shots", joined(&protocol.shots))),
    ];
    let changed = [
        other(protocol.queries, usual.queries, |queries| format!("{queries}-queries")),
        other(protocol.episodes, usual.episodes, |episodes| format!("{episodes}-episodes")),
    ];
    let changed = in_metrics.iter().cloned().chain(changed);
    let chosen = chosen(&arguments.common, CropKind::Center, protocol, changed)?;
    Ok(Chosen { in_metrics: in_metrics.into_iter().flatten().collect(), ..chosen })
}

/// `eval equivariance`.
fn equivariance(arguments: &Equivariance) -> anyhow::Result<Chosen<'_>> {
    let protocol = EquivarianceProtocol { images: arguments.images as usize, each_augmentation: !arguments.overall };
    let changed =
        [images(protocol.images, EquivarianceProtocol::default().images), arguments.overall.then(|| "overall".into())];
    chosen(&arguments.common, CropKind::Center, protocol, changed)
}

/// `eval params`.
fn params(arguments: &Params) -> anyhow::Result<Chosen<'_>> {
    let protocol = ParameterProtocol { images: arguments.images as usize };
    let changed = [images(protocol.images, ParameterProtocol::default().images)];
    chosen(&arguments.common, CropKind::Center, protocol, changed)
}

/// `eval retrieval`.
fn retrieval(arguments: &Retrieval) -> anyhow::Result<Chosen<'_>> {
    let protocol = RetrievalProtocol { images: arguments.images as usize, views: arguments.views as usize };
    let usual = RetrievalProtocol::default();
    let changed =
        [images(protocol.images, usual.images), other(protocol.views, usual.views, |views| format!("{views}-views"))];
    chosen(&arguments.common, CropKind::Center, protocol, changed)
}

/// `eval health`.
fn health(arguments: &Health) -> anyhow::Result<Chosen<'_>> {
    let protocol = HealthProtocol { images: arguments.images as usize };
    let changed = [images(protocol.images, HealthProtocol::default().images)];
    chosen(&arguments.common, CropKind::Center, protocol, changed)
}

/// Numbers, joined by hyphens.
fn joined<T: Display>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::of;
    use crate::cli::{Cli, Command};

    /// The settings of an evaluation that differ from the defaults.
    fn other(command: &str) -> Vec<String> {
        let Command::Eval(eval) = Cli::try_parse_from(command.split(' ')).unwrap().command else { unreachable!() };
        of(&eval.command).unwrap().unwrap().other
    }

    #[test]
    fn defaults_of_the_command_are_those_of_the_protocols() {
        for protocol in
            ["linear", "logistic", "knn", "few-shot", "finetune", "equivariance", "params", "retrieval", "health"]
        {
            assert!(other(&format!("equimod eval {protocol} m")).is_empty(), "{protocol}");
        }
        assert_eq!(other("equimod eval linear m --epochs 5 --lr 0.1"), ["5-epochs", "lr-0.1"]);
        assert_eq!(other("equimod eval finetune m --labels 1 --labels 10"), ["labels-1-10"]);
        assert_eq!(other("equimod eval few-shot m --shots 5"), ["5-shots"]);
        assert_eq!(other("equimod eval equivariance m --images 20 --overall"), ["20-images", "overall"]);
        assert_eq!(other("equimod eval logistic m --l2-strengths 5"), ["5-strengths"]);
    }
}
