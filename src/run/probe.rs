//! Probe of a recipe: k-NN and a linear probe on frozen features of labeled images during training.

use equimod_core::Model;
use equimod_data::Splits;
use equimod_eval::Evaluation;
use equimod_eval::evaluation::Classification;
use equimod_eval::knn::KnnConfig;
use equimod_eval::lbfgs::LbfgsConfig;
use equimod_eval::logistic::LogisticConfig;
use equimod_train::recipe::{ProbeRecipe, Score};
use equimod_train::{Error, Probe, Recipe, Result};

use crate::inputs::sources::splits;
use crate::reference::PREFIX;

/// L2 strengths of the linear probe and limits of its fits, for a quick estimate instead of the published protocol.
const L2_STRENGTHS: [f64; 3] = [1e-2, 1e-1, 1.0];
const QUICK: LbfgsConfig = LbfgsConfig { history: 10, iterations: 50, tolerance: 1e-3, change: 0.0 };

/// k-NN and a linear probe on one task of labeled images.
pub struct LabeledProbe {
    config: ProbeRecipe,
    splits: Splits,
    task: String,
}

impl LabeledProbe {
    /// Creates the recipe's probe, if it has one.
    pub fn of(recipe: &Recipe) -> anyhow::Result<Option<Self>> {
        let config = recipe.probe.clone();
        if config.every_epochs == 0 {
            return Ok(None);
        }
        let source = if config.data.is_empty() { &recipe.data.source } else { &config.data };
        let splits = splits(source, recipe.data.reading())?;
        let splits = splits.with_labels(std::slice::from_ref(&config.task))?;
        let one_shot = splits.designs.as_ref().map(|designs| designs.one_shot.as_str());
        let first = splits.train.tasks().iter().find(|task| Some(task.name.as_str()) != one_shot);
        let task = match (config.task.as_str(), first) {
            ("", Some(first)) => first.name.clone(),
            ("", None) => anyhow::bail!(equimod_data::Error::Config(format!(
                "{source} has no labels to probe with; name a labeled source in probe.data, or set probe.every_epochs \
                 to 0"
            ))),
            (task, _) => splits.train.tasks()[splits.train.task(task)?].name.clone(),
        };
        Ok(Some(Self { config, splits, task }))
    }

    /// Accuracies on the same images for every seed of training.
    fn scores(&self, model: &Model) -> anyhow::Result<Vec<(String, f64)>> {
        let evaluation = Evaluation::new(model, &self.splits).tasks([self.task.as_str()]);
        let score = |kind: Score, classifications: Vec<Classification>| {
            let hits = classifications.first()?.predictions.hits(1);
            Some((kind.name().to_owned(), hits.iter().sum::<f64>() / hits.len().max(1) as f64))
        };
        let knn = KnnConfig { k: self.config.k, ..KnnConfig::default() };
        let mut scores = Vec::from_iter(score(Score::Knn, evaluation.classify(&knn)?));
        if self.config.linear {
            let config = LogisticConfig { l2_strengths: L2_STRENGTHS.to_vec(), lbfgs: QUICK, ..Default::default() };
            scores.extend(score(Score::Linear, evaluation.classify(&config)?));
        }
        Ok(scores)
    }
}

/// Reason why the recipe's probe cannot be created, if its images are on this machine.
pub fn problem(recipe: &Recipe) -> Option<String> {
    let is_elsewhere = [&recipe.data.source, &recipe.probe.data].iter().any(|source| source.starts_with(PREFIX));
    if is_elsewhere { None } else { LabeledProbe::of(recipe).err().map(|reason| format!("probe: {reason}")) }
}

impl Probe for LabeledProbe {
    fn evaluate(&mut self, model: &Model) -> Result<Vec<(String, f64)>> {
        self.scores(model).map_err(|error| Error::Probe(error.into()))
    }
}
