//! Results as rows, with one schema for files, tables and reports.

mod foundation;
mod table;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::{Estimate, bootstrap_mean};

pub use foundation::{
    best_founded, headline_accuracy, is_better_founded, is_quick_search, is_reduced, searched_whole_range,
};
pub use table::{Column, aligned, cells, common_detail, filled, markdown, markdown_page, markdown_table, plain};

/// Metric of classifiers: the share of images whose class is predicted.
pub const TOP_1: &str = "top-1 accuracy";
/// Metric name of the mean over classes of their accuracy.
pub const MEAN_PER_CLASS: &str = "mean per class accuracy";

/// Beginning of the metric of a difference between two models.
pub const DIFFERENCE: &str = "difference of";

/// Beginning of the protocol of few-shot episodes, whose intervals are over episodes that share images.
pub const FEW_SHOT: &str = "few-shot, ";

/// Protocol of equivariance.
pub const EQUIVARIANCE: &str = "equivariance";
/// Metric name of absolute equivariance.
pub const ABSOLUTE: &str = "absolute equivariance";
/// Metric name of its control, with parameters of other images.
pub const SHUFFLED: &str = "absolute equivariance, shuffled parameters";
/// Metric name of a model's mean over the tasks of a suite.
pub const SUITE_MEAN: &str = "mean over tasks";

/// Metric name of relative equivariance.
pub const RELATIVE: &str = "relative equivariance";
/// Metric name of relative equivariance as a ratio of means.
pub const RATIO_OF_MEANS: &str = "relative equivariance, ratio of means";

/// Remark on a difference whose interval the test of single images does not confirm.
pub const NOT_CONFIRMED: &str = "above 0.05";
/// Highest p-value of that test that confirms it.
pub const SIGNIFICANT: f64 = 0.05;

/// Start of the remark on a difference over two pairs of models.
pub const OVER_TWO: &str = "over 2 pairs";

/// Remark on a linear evaluation or a fine-tuning with other epochs than the published ones.
pub const OTHER_EPOCHS: &str = "not the published epochs";
/// Remark on the steps of a linear evaluation that are too few to converge.
pub const FEW_STEPS: &str = "steps, too few to converge";

/// Part of the detail of a number on images that were held out of the training images.
pub const HELD_OUT: &str = "held-out images";

/// Remark on a chosen hyperparameter.
pub const AT_AN_END: &str = "at an end of the range";

/// Metric name of the standard deviation of features relative to an even spread.
pub const NORMALIZED_STD: &str = "standard deviation of unit features × √D (1: even, 0: collapsed)";

/// Metric name of the R² of a single parameter.
pub const R2: &str = "R²";

/// Metric name of the R² of all parameters together.
pub const POOLED_R2: &str = "pooled R²";

/// End of the protocol of rows that need a trained predictor.
pub const BY_PREDICTOR: &str = "by the predictor";
/// Metric name of the share of views that are ranked first.
pub const H_1: &str = "H@1";

/// Metric name of the accuracy of parameters that are 0 or 1.
pub const ACCURACY_OF_FLAG: &str = "accuracy of the flag";

/// Metric name of the effective rank of features.
pub const EFFECTIVE_RANK: &str = "effective rank (RankMe)";

/// The version of the schema of [`Results`].
pub const FORMAT: u32 = 1;

/// The file `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// Version of this schema, 1: no field is removed or renamed within a version.
    pub format: u32,
    /// Version of equimod.
    pub version: String,
    /// Command line.
    pub command: Vec<String>,
    /// Seed of drawn splits, views and bootstrap intervals.
    pub seed: u64,
    /// Evaluated models.
    pub models: Vec<EvaluatedModel>,
    /// Numbers, one a row.
    pub rows: Vec<ResultRow>,
    /// Splits that were drawn because the data set has none of its own.
    pub splits: Vec<DrawnSplit>,
    /// Sentences on what the rows mean, computed from them.
    #[serde(default)]
    pub verdict: Vec<String>,
}

impl Results {
    /// The rows of the first model.
    pub fn of_first(&self) -> impl Iterator<Item = &ResultRow> {
        let first = self.models.first().map_or("", |model| model.name.as_str());
        self.rows.iter().filter(move |row| row.model.is_empty() || row.model == first)
    }
}

/// A model that was evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvaluatedModel {
    /// Name in the rows.
    pub name: String,
    /// Path of the file of weights.
    pub path: String,
    /// Hexadecimal SHA-256 of that file.
    pub sha256: String,
    /// Network, e.g. `resnet18, CIFAR stem, width 64`.
    pub backbone: String,
    /// Resizing, cropping and normalization of images.
    pub preprocessing: String,
}

/// A split of a task's images that was drawn from the seed; `splits.json` beside the results lists its images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrawnSplit {
    /// Data set.
    pub data: String,
    /// Task, i.e. label column.
    pub task: String,
    /// `validation` or `test`.
    pub part: String,
    /// Split that it was drawn from: `train`.
    pub of: String,
    /// Number of images.
    #[serde(rename = "pictures", alias = "images")]
    pub images: usize,
    /// Hexadecimal SHA-256 of the images' indices in the data set, written in decimal with a line feed after each.
    pub sha256: String,
}

/// One number with its protocol, data set, task and metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultRow {
    /// Model, where there are several.
    #[serde(default)]
    pub model: String,
    /// `knn`, `logistic`, `equivariance`, …
    pub protocol: String,
    /// Data set.
    pub data: String,
    /// Label column, module or augmentation.
    pub task: String,
    /// Metric, e.g. `top-1 accuracy`.
    pub metric: String,
    /// Value; shares lie between 0 and 1.
    pub value: f64,
    /// 95 % interval of the value.
    pub interval: Option<(f64, f64)>,
    /// Value of the same network before training.
    pub untrained: Option<f64>,
    /// Value of the baseline: the same run without the losses of its equivariance modules.
    #[serde(default)]
    pub baseline: Option<f64>,
    /// Chance level.
    pub chance: Option<f64>,
    /// The value minus that of the untrained network, on the same test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_untrained: Option<Paired>,
    /// The value minus that of the baseline, on the same test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_baseline: Option<Paired>,
    /// Values of the test images whose mean the value is, while they are known.
    #[serde(skip)]
    pub samples: Option<Arc<[f64]>>,
    /// Chosen hyper-parameter, and how it was chosen.
    #[serde(default)]
    pub chosen: Option<String>,
    /// Settings, split and numbers of images.
    pub detail: String,
    /// Settings other than the defaults of the protocol and the model, e.g. `lr-0.01`; empty if there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
    /// Label column, if the task has another name, as in a suite.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub labels: String,
}

/// A difference of two models on the same test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paired {
    /// 95 % bootstrap interval over images, each resampled with both models.
    pub interval: (f64, f64),
    /// Two-sided p-value of McNemar's exact test, of images that are right or wrong.
    pub p_value: Option<f64>,
}

impl Paired {
    /// Whether the interval excludes 0, and McNemar's test, if there is one, confirms it.
    pub fn is_clear(&self) -> bool {
        let (low, high) = self.interval;
        (low > 0.0 || high < 0.0) && self.p_value.is_none_or(|p| p <= SIGNIFICANT)
    }
}

/// A number with its sign; without one if it rounds to 0.
pub fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:+.digits$}");
    let is_zero = value.is_finite() && !text.contains(|digit: char| ('1'..='9').contains(&digit));
    if is_zero { text[1..].to_owned() } else { text }
}

impl ResultRow {
    /// The row with the mean of the values of its test images, and its interval.
    pub fn of_images(self, values: Vec<f64>, seed: u64) -> Self {
        let row = self.with(bootstrap_mean(&values, seed));
        Self { samples: Some(values.into()), ..row }
    }

    /// The row with this value and interval.
    pub fn with(self, estimate: Estimate) -> Self {
        Self { value: estimate.value, interval: Some(estimate.interval), ..self }
    }

    /// The row without its interval and the values of other models.
    pub(crate) fn without_references(&self) -> Self {
        let row = Self { interval: None, samples: None, ..self.clone() };
        Self { untrained: None, over_untrained: None, baseline: None, over_baseline: None, ..row }
    }

    /// Whether the number is one of a module's predictor, which nothing trains without the module's loss.
    pub fn is_of_predictor(&self) -> bool {
        self.protocol == EQUIVARIANCE || self.protocol.ends_with(BY_PREDICTOR)
    }

    /// Whether the number is a mean over episodes of few labels, which share their images.
    pub fn is_few_shot(&self) -> bool {
        self.protocol.starts_with(FEW_SHOT)
    }

    /// Whether it is a difference whose interval excludes 0.
    pub fn is_clear_difference(&self) -> bool {
        self.metric.starts_with(DIFFERENCE) && self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }

    /// Name of the protocol, with whether it was a quick search.
    pub fn protocol_name(&self) -> String {
        let quick = if self.chosen.is_some() && is_quick_search(self) { "quick " } else { "" };
        format!("{quick}{}", self.protocol)
    }

    /// What it has in common with other measurements of the same number: protocol, data, task and metric.
    pub fn key(&self) -> [&str; 4] {
        [&self.protocol, &self.data, &self.task, &self.metric]
    }

    /// `value` as text, shares in per cent, differences of shares in points.
    pub fn text(&self, value: f64) -> String {
        match self.is_share() {
            true if self.metric.starts_with(DIFFERENCE) => format!("{} points", signed(100.0 * value, 1)),
            true => format!("{:.1} %", 100.0 * value),
            false => format!("{value:.3}"),
        }
    }

    /// Short name of the measure: the task with the protocol or the metric, and settings other than the defaults.
    pub fn label(&self) -> String {
        let shots = self.metric.split(' ').find(|word| word.ends_with("-shot")).unwrap_or_default();
        let measure = match self.protocol.strip_prefix(FEW_SHOT) {
            Some(classifier) => format!("{shots} {classifier}"),
            None if self.metric == TOP_1 => self.protocol_name(),
            None if self.metric == MEAN_PER_CLASS || self.metric.starts_with("top-") => {
                format!("{}, {}", self.protocol, self.metric)
            }
            // Protocols with several metrics have a name for each.
            None => self.metric.clone(),
        };
        let parts = [&self.task, &measure, &self.settings].map(String::as_str);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// The value minus that of `other` as text, of shares in points.
    pub fn difference(&self, other: &Self) -> String {
        let difference = self.value - other.value;
        if self.is_share() { format!("{} points", signed(100.0 * difference, 1)) } else { signed(difference, 3) }
    }

    /// Whether the metric is a share in [0, 1], or a difference of shares, to be shown in per cent.
    pub fn is_share(&self) -> bool {
        ["accuracy", "recall", "H@", "mean over tasks"].iter().any(|share| self.metric.contains(share))
    }

    fn optional(&self, value: Option<f64>) -> Option<String> {
        value.map(|value| self.text(value))
    }

    /// The interval as text.
    pub fn interval_text(&self) -> Option<String> {
        let (_, to) = self.interval?;
        let text = self.text(to);
        let unit = text.find(' ').map_or("", |start| &text[start..]);
        Some(self.interval_numbers()? + unit)
    }

    /// The interval as text without its unit.
    pub fn interval_numbers(&self) -> Option<String> {
        let number = |value: f64| self.text(value).split(' ').next().unwrap_or_default().to_owned();
        let (from, to) = self.interval?;
        // A dash would look like a sign.
        let is_signed = from < 0.0 || to < 0.0 || self.metric.starts_with(DIFFERENCE);
        Some([number(from), number(to)].join(if is_signed { " to " } else { "–" }))
    }
}

/// The rows with the last part of the data's name in those tasks of which shares were measured on several data sets.
pub fn with_distinct_tasks(rows: &[ResultRow]) -> Vec<ResultRow> {
    let is_other = |row: &ResultRow, other: &ResultRow| {
        other.is_share() && other.data != row.data && (&other.model, &other.task) == (&row.model, &row.task)
    };
    let is_ambiguous = |row: &ResultRow| row.is_share() && rows.iter().any(|other| is_other(row, other));
    let distinct = |row: &ResultRow| {
        let data = row.data.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let task = if is_ambiguous(row) { format!("{} of {data}", row.task) } else { row.task.clone() };
        ResultRow { task, ..row.clone() }
    };
    rows.iter().map(distinct).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounds_to_0_has_no_sign() {
        let texts = [0.05, -0.04, 0.0, -12.0, f64::NAN].map(|value| signed(value, 1));
        assert_eq!(texts, ["+0.1", "0.0", "0.0", "-12.0", "NaN"]);
    }

    #[test]
    fn tasks_of_several_data_sets_are_told_apart() {
        let row = |data: &str, task: &str, metric: &str| ResultRow {
            data: data.into(),
            task: task.into(),
            metric: metric.into(),
            ..ResultRow::default()
        };
        let rows = [
            row("a/birds", "class", TOP_1),
            row("hf:lab/cars", "class", TOP_1),
            row("a/birds", "size", TOP_1),
            // Another protocol names its data set, too.
            ResultRow { protocol: "linear".into(), ..row("a/birds", "class", "mean per class accuracy") },
            row("a/birds", "equimod", ABSOLUTE),
            row("hf:lab/cars", "equimod", ABSOLUTE),
        ];
        let tasks: Vec<String> = with_distinct_tasks(&rows).into_iter().map(|row| row.task).collect();
        assert_eq!(tasks, ["class of birds", "class of cars", "size", "class of birds", "equimod", "equimod"]);
    }

    #[test]
    fn a_file_reads_back_as_it_was() {
        let results = Results { format: FORMAT, rows: vec![ResultRow::default()], ..Default::default() };
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    }
}
