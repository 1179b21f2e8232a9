//! Classifiers on frozen features, and the rows that they give.

use equimod_eval::knn::{self, KnnConfig};
use equimod_eval::logistic::{LogisticConfig, sweep};
use equimod_eval::metrics::{bootstrap_mean, bootstrap_mean_per_class, guessing};
use equimod_eval::report::{Plot, Series};
use equimod_eval::results::DrawnSplit;
use equimod_eval::{Predictions, ResultRow};

use super::{Evaluation, Task};

/// What one classifier said of one task's test pictures.
pub struct Outcome {
    /// The task.
    pub task: Task,
    /// `knn`, `logistic`, …
    pub protocol: String,
    /// What tells it from others of the same task, e.g. the share of labels; in titles and names of files.
    pub variant: String,
    /// What it said.
    pub predictions: Predictions,
    /// The hyper-parameter that was chosen, and how.
    pub chosen: Option<String>,
    /// Its settings.
    pub detail: String,
    /// How it came about.
    pub curves: Vec<Plot>,
}

/// Which numbers are wanted of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Top-1 accuracy.
    First,
    /// Also top-5, the mean over classes and the calibration error.
    All,
}

pub use equimod_eval::results::TOP_1;
const TOP_5: &str = "top-5 accuracy";
pub const MEAN_PER_CLASS: &str = "mean per class accuracy";
const CALIBRATION: &str = "expected calibration error";

impl Outcome {
    /// The task with what tells this from others of it.
    pub fn title(&self) -> String {
        if self.variant.is_empty() { self.task.name.clone() } else { format!("{}, {}", self.task.name, self.variant) }
    }

    /// The splits that were drawn for it: validation pictures count only where something was chosen on them.
    pub fn drawn(&self) -> impl Iterator<Item = &(DrawnSplit, Vec<usize>)> {
        self.task.drawn.iter().filter(|(split, _)| split.part == "test" || self.chosen.is_some())
    }

    /// The numbers; `data` and `seed` are those of the evaluation.
    pub fn rows(&self, data: &str, seed: u64, wanted: Rows) -> Vec<ResultRow> {
        let (predictions, labels) = (&self.predictions, self.predictions.labels());
        let classes = predictions.classes();
        let row = |metric: &str| ResultRow {
            protocol: match self.variant.as_str() {
                "" => self.protocol.clone(),
                variant => format!("{}, {variant}", self.protocol),
            },
            data: data.into(),
            task: self.task.name.clone(),
            metric: metric.into(),
            chosen: self.chosen.clone(),
            detail: format!("{}; {}", self.detail, self.task.tested_on()),
            ..Default::default()
        };
        let right = predictions.hits(1);
        let chance = Some(guessing(labels, classes, 1));
        let mut rows = vec![ResultRow { chance, ..row(TOP_1).with(bootstrap_mean(&right, seed)) }];
        if wanted == Rows::First {
            return rows;
        }
        if classes > 5 {
            let chance = Some(guessing(labels, classes, 5));
            rows.push(ResultRow { chance, ..row(TOP_5).with(bootstrap_mean(&predictions.hits(5), seed)) });
        }
        let per_class = bootstrap_mean_per_class(&right, labels, classes, seed);
        let chance = Some(1.0 / self.task.test.present().max(1) as f64);
        rows.push(ResultRow { chance, ..row(MEAN_PER_CLASS).with(per_class) });
        rows.push(ResultRow { value: predictions.calibration_error(), ..row(CALIBRATION) });
        rows
    }
}

impl Evaluation<'_> {
    /// The weighted vote of the nearest training pictures on each test picture.
    pub fn knn(&self, config: &KnnConfig) -> anyhow::Result<Vec<Outcome>> {
        let outcome = |task: Task| {
            Ok(Outcome {
                predictions: knn::predict(&task.train, &task.test, config)?,
                protocol: "knn".into(),
                variant: String::new(),
                chosen: None,
                detail: format!("k {}, T {}", config.k, config.temperature),
                curves: Vec::new(),
                task,
            })
        };
        self.tasks()?.into_iter().map(outcome).collect()
    }

    /// Logistic regression; the penalty is chosen on validation.
    pub fn logistic(&self, config: &LogisticConfig) -> anyhow::Result<Vec<Outcome>> {
        let outcome = |task: Task| {
            let sweep = sweep(&task.fit, &task.validation, config)?;
            let ends = [config.penalties.first(), config.penalties.last()];
            let at_an_end = config.penalties.len() > 1 && ends.contains(&Some(&sweep.penalty));
            let curve = |&(penalty, accuracy): &(f64, f64)| (penalty.log10(), accuracy);
            Ok(Outcome {
                predictions: sweep.classifier.predict(&task.test)?,
                protocol: "logistic".into(),
                variant: String::new(),
                chosen: Some(format!(
                    "w {:.2e}, the best of {} on {}: {:.1} %{}",
                    sweep.penalty,
                    config.penalties.len(),
                    task.chosen_on(),
                    100.0 * sweep.validation_accuracy,
                    if at_an_end { ", at an end of those tried" } else { "" }
                )),
                detail: "L-BFGS".into(),
                curves: vec![Plot {
                    title: format!("{}: accuracy on validation", task.name),
                    x_label: "logarithm of the penalty w (base 10)".into(),
                    series: vec![Series { name: "validation".into(), points: sweep.curve.iter().map(curve).collect() }],
                }],
                task,
            })
        };
        self.tasks()?.into_iter().map(outcome).collect()
    }
}
