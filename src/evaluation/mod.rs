//! From a model and pictures to rows of results.

mod classify;
mod cross_design;
mod few_shot;
pub mod measures;
pub mod page;
mod projections;
mod recall;
mod tasks;
mod trained;

use std::path::Path;

use equimod_core::Model;
use equimod_data::Dataset;
use equimod_eval::results::Evaluated;
use equimod_eval::{Extractor, Features, Input, ResultRow};

pub use classify::{MEAN_PER_CLASS, Outcome, Rows, TOP_1};
pub use measures::{Pictures, equivariance};
pub use tasks::Task;

pub use crate::sources::task_name;

use crate::output;
use crate::sources::Splits;

/// What decides an evaluation beside the model and the pictures.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Only these tasks; empty for all.
    pub tasks: &'a [String],
    /// Decides splits, views and intervals.
    pub seed: u64,
    /// How pictures enter the network; as it was trained, if left out.
    pub input: Option<Input>,
    /// A folder for features.
    pub cache: Option<&'a Path>,
}

/// Evaluates the frozen features of one model on one source.
pub struct Evaluation<'a> {
    /// Where the pictures are.
    pub splits: &'a Splits,
    /// What decides it.
    pub settings: Settings<'a>,
    train: Features,
    validation: Option<Features>,
    test: Option<Features>,
}

impl<'a> Evaluation<'a> {
    /// Computes the features of `model`, or reads them from the cache.
    pub fn new(model: &Model, splits: &'a Splits, settings: Settings<'a>) -> anyhow::Result<Self> {
        tasks::check(splits, settings.tasks)?;
        let extractor = Extractor::new(model, settings.cache);
        let extractor = match settings.input {
            Some(input) => extractor.with_input(input),
            None => extractor,
        };
        let features = |dataset: &dyn Dataset| -> anyhow::Result<Features> {
            let features = extractor.features(dataset)?;
            if let Some(&first) = features.left_out().first() {
                let (count, key) = (features.left_out().len(), dataset.key(first));
                output::note(&format!("{count} pictures do not decode and are left out of the evaluation: {key}, …"));
            }
            Ok(features)
        };
        let train = features(splits.train.as_ref())?;
        let validation = splits.validation.as_ref().map(|pictures| features(pictures.as_ref())).transpose()?;
        let test = splits.test.as_ref().map(|pictures| features(pictures.as_ref())).transpose()?;
        Ok(Self { splits, settings, train, validation, test })
    }

    /// The features of the test pictures, or of all where a part is held out, and their data set.
    pub fn shown(&self) -> (&Features, &dyn Dataset) {
        match (&self.test, &self.splits.test) {
            (Some(features), Some(dataset)) => (features, dataset.as_ref()),
            _ => (&self.train, self.splits.train.as_ref()),
        }
    }
}

/// What is said of a model in `results.json`.
pub fn evaluated(name: &str, model: &Model, input: Input) -> Evaluated {
    Evaluated {
        name: name.into(),
        path: model.path.display().to_string(),
        sha256: model.sha256.clone(),
        backbone: network(model),
        preprocessing: preprocessing(model, input),
    }
}

/// How pictures enter the network, for people.
fn preprocessing(model: &Model, input: Input) -> String {
    let normalisation = &model.preprocessing.normalisation;
    let guessed = if model.guessed { " (guessed from the stem)" } else { "" };
    format!("{}, mean {:?}, std {:?}{guessed}", input.describe(), normalisation.mean, normalisation.std)
}

/// The network, for people.
fn network(model: &Model) -> String {
    match &model.description {
        Some(description) => description.method.backbone.settings().describe(),
        None => format!("a ResNet under torchvision's names, {} features", model.backbone().features()),
    }
}

/// Puts the values of `untrained` beside those of `rows`; both come from the same calls.
pub fn beside(mut rows: Vec<ResultRow>, untrained: &[ResultRow]) -> Vec<ResultRow> {
    for row in &mut rows {
        let same = |other: &&ResultRow| {
            (&other.protocol, &other.task, &other.metric) == (&row.protocol, &row.task, &row.metric)
        };
        row.untrained = untrained.iter().find(same).map(|other| other.value);
    }
    rows
}
