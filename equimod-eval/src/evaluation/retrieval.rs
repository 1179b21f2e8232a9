//! Retrieval by predictions and by features.

use equimod_data::task_name;

use super::cross_design::pair_names;
use super::{Evaluation, Measurement, Protocol, page};
use crate::error::refuse;
use crate::predictor_retrieval::{PredictorRetrievalConfig, retrieve};
use crate::recall::{same_class, same_class_chance};
use crate::report::Section;
use crate::{Result, ResultRow};

/// Retrieval of views by the predictor, of images of the same class by features, and across two designs where the
/// data set has them. The tasks `cross-design` and `<one-shot label>s` select sets of pairs of designs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrievalProtocol {
    /// Maximum number of images whose views are predicted. Default: 200.
    pub images: usize,
    /// Views of each image, among which a prediction retrieves its own. Default: 50.
    pub views: usize,
}

impl Default for RetrievalProtocol {
    fn default() -> Self {
        let PredictorRetrievalConfig { images, views, .. } = PredictorRetrievalConfig::default();
        Self { images, views }
    }
}

/// Ranks k of H@k among the views of an image.
const VIEW_RANKS: [usize; 4] = [1, 2, 5, 10];
/// Ranks k of recall@k among the test images.
const CLASS_RANKS: [usize; 3] = [1, 5, 10];

impl Protocol for RetrievalProtocol {
    fn name(&self) -> &'static str {
        "retrieval"
    }

    fn summary(&self) -> &'static str {
        "Intervals are 95 % bootstrap intervals over images; chance is a random order."
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let mut rows = Vec::new();
        match self.by_predictions(evaluation) {
            Ok(by_predictions) => rows.extend(by_predictions),
            Err(error) => evaluation.observer.log(&format!("no retrieval by the predictor: {error}")),
        }
        if !evaluation.splits.train.tasks().is_empty() {
            if has_label_tasks(evaluation) {
                match by_features(evaluation) {
                    // The predictor's rows need no labels.
                    Err(error) if !rows.is_empty() => {
                        evaluation.observer.log(&format!("no retrieval by features: {error}"));
                    }
                    by_features => rows.extend(by_features?),
                }
            }
            let selected = |row: &ResultRow| evaluation.tasks.is_empty() || evaluation.tasks.contains(&row.task);
            rows.extend(evaluation.cross_design()?.into_iter().filter(selected));
        }
        if rows.is_empty() {
            return refuse(
                "the model has no predictor of views and the images have no labels, so nothing can be retrieved",
            );
        }
        Ok(rows.into())
    }

    fn sections(
        &self,
        evaluation: &Evaluation,
        _measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        if evaluation.splits.train.tasks().is_empty() || !has_label_tasks(evaluation) {
            return Ok(Vec::new());
        }
        page::neighbor_sections(evaluation, &evaluation.labeled_tasks()?.iter().collect::<Vec<_>>())
    }
}

/// Whether a task other than pairs of designs is selected.
fn has_label_tasks(evaluation: &Evaluation) -> bool {
    let pairs = evaluation.splits.designs.as_ref().map(pair_names).unwrap_or_default();
    let is_pair = |task: &String| pairs.iter().any(|pair| *pair == task_name(task));
    evaluation.tasks.is_empty() || !evaluation.tasks.iter().all(is_pair)
}

impl RetrievalProtocol {
    /// Mean reciprocal rank and H@k of predictions among the views of an image.
    fn by_predictions(&self, evaluation: &Evaluation) -> Result<Vec<ResultRow>> {
        let Self { images, views } = *self;
        let config = PredictorRetrievalConfig { images, views, seed: evaluation.seed };
        let mut rows = Vec::new();
        for module in retrieve(evaluation.model, evaluation.splits.test_or_train().as_ref(), &config)? {
            let part = evaluation.splits.tested_part();
            let detail = format!("each of {views} views of {part} images among them, {} queries", module.ranks.len());
            // The views of an image are not independent: images are resampled, each with all its views.
            let row = |metric: &str, values: &[f64], chance: f64| {
                let row = evaluation.number("retrieval by the predictor", &module.module, metric, 0.0);
                let means: Vec<f64> = values.chunks(views).map(|of| of.iter().sum::<f64>() / of.len() as f64).collect();
                let chance = Some(chance);
                ResultRow { chance, detail: detail.clone(), ..row.of_images(means, evaluation.seed) }
            };
            rows.push(row("MRR", &module.reciprocal_ranks(), module.chance_of_mean_reciprocal_rank()));
            for k in VIEW_RANKS {
                rows.push(row(&format!("H@{k}"), &module.hits(k), module.chance_of_hit(k)));
            }
        }
        Ok(rows)
    }
}

/// Recall of an image of the same class among the other test images, for each task.
fn by_features(evaluation: &Evaluation) -> Result<Vec<ResultRow>> {
    let mut rows = Vec::new();
    for task in evaluation.labeled_tasks()? {
        let (queries, hits) = same_class(&task.test, &CLASS_RANKS)?;
        for (k, hits) in CLASS_RANKS.into_iter().zip(hits) {
            let row = ResultRow {
                chance: Some(same_class_chance(&task.test.labels, task.classes.len(), k)),
                detail: format!("same class, cosine, {} queries; {}", queries.len(), task.test_description()),
                ..evaluation.number("retrieval by features", &task.name, &format!("recall@{k}"), 0.0)
            };
            rows.push(row.of_images(hits, evaluation.seed));
        }
    }
    Ok(rows)
}
