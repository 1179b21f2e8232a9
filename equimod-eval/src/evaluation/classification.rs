//! The predictions of a classifier on one task, and the rows they give.

use super::{DrawnImages, LabeledTask};
use crate::metrics::{bootstrap_mean_per_class, majority_share};
use crate::report::Plot;
use crate::{Predictions, ResultRow};

/// The predictions of one classifier on the test images of one task.
pub struct Classification {
    /// The labeled images.
    pub task: LabeledTask,
    /// Name of the protocol: `knn`, `logistic`, …
    pub protocol: String,
    /// Distinguishes several classifications of the same task, e.g. by the share of labels; in titles and file names.
    pub variant: String,
    /// Probabilities of the classes for each test image.
    pub predictions: Predictions,
    /// The hyper-parameter that was chosen, and how.
    pub chosen: Option<String>,
    /// The settings, as text.
    pub detail: String,
    /// Curves of validation or training.
    pub curves: Vec<Plot>,
}

pub use crate::results::{MEAN_PER_CLASS, TOP_1};

const TOP_5: &str = "top-5 accuracy";
const CALIBRATION: &str = "expected calibration error";

impl Classification {
    /// Name of the task, followed by the variant if there is one.
    pub fn title(&self) -> String {
        if self.variant.is_empty() { self.task.name.clone() } else { format!("{}, {}", self.task.name, self.variant) }
    }

    /// The splits that were drawn for it. A validation split counts only where a hyper-parameter was chosen on it.
    pub fn drawn(&self) -> impl Iterator<Item = &DrawnImages> {
        self.task.drawn.iter().filter(|drawn| drawn.split.part == "test" || self.chosen.is_some())
    }

    /// Top-1 accuracy with its bootstrap interval. `data` names the data set; `seed` decides the resamples.
    pub fn top_1(&self, data: &str, seed: u64) -> ResultRow {
        let labels = self.predictions.labels();
        let chance = Some(majority_share(labels, self.predictions.classes(), 1));
        ResultRow { chance, ..self.row(data, TOP_1).of_images(self.predictions.hits(1), seed) }
    }

    /// Top-1 and top-5 accuracy, the mean over classes and the calibration error.
    pub fn rows(&self, data: &str, seed: u64) -> Vec<ResultRow> {
        let (predictions, labels) = (&self.predictions, self.predictions.labels());
        let classes = predictions.classes();
        let mut rows = vec![self.top_1(data, seed)];
        if classes > 5 {
            let chance = Some(majority_share(labels, classes, 5));
            rows.push(ResultRow { chance, ..self.row(data, TOP_5).of_images(predictions.hits(5), seed) });
        }
        let per_class = bootstrap_mean_per_class(&predictions.hits(1), labels, classes, seed);
        let chance = Some(1.0 / self.task.test.present().max(1) as f64);
        rows.push(ResultRow { chance, ..self.row(data, MEAN_PER_CLASS).with(per_class) });
        rows.push(ResultRow { value: predictions.calibration_error(), ..self.row(data, CALIBRATION) });
        rows
    }

    fn row(&self, data: &str, metric: &str) -> ResultRow {
        let protocol = match self.variant.as_str() {
            "" => self.protocol.clone(),
            variant => format!("{}, {variant}", self.protocol),
        };
        ResultRow {
            protocol,
            data: data.into(),
            task: self.task.name.clone(),
            metric: metric.into(),
            chosen: self.chosen.clone(),
            detail: format!("{}; {}", self.detail, self.task.test_description()),
            ..Default::default()
        }
    }
}

/// The splits that were drawn for `classifications`, each once.
pub fn distinct_draws<'a>(classifications: impl IntoIterator<Item = &'a Classification>) -> Vec<DrawnImages> {
    let mut draws: Vec<DrawnImages> = Vec::new();
    for drawn in classifications.into_iter().flat_map(Classification::drawn) {
        if !draws.contains(drawn) {
            draws.push(drawn.clone());
        }
    }
    draws
}
