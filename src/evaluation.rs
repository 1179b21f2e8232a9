//! From a model and pictures to rows of results.

use std::path::Path;

use equimod_core::Model;
use equimod_data::Dataset;
use equimod_eval::equivariance::measure;
use equimod_eval::knn::{KnnConfig, partner_hits, vote};
use equimod_eval::logistic::{LogisticConfig, split, sweep};
use equimod_eval::metrics::{bootstrap_mean, hits, majority, mean_per_class};
use equimod_eval::{Extractor, Features, Labelled, ResultRow};

use crate::output;
use crate::sources::Splits;

/// The share of training pictures on which hyper-parameters are chosen, and of a source without test pictures that is
/// held out.
const HELD_OUT: f64 = 0.2;

/// What a task's column is called in results.
fn task_name(column: &str) -> String {
    column.replace('_', "-")
}

/// Evaluates one model on one source.
pub struct Evaluation<'a> {
    /// Where the pictures are.
    pub splits: &'a Splits,
    /// Only these tasks; empty for all.
    pub tasks: &'a [String],
    /// Decides splits, views and intervals.
    pub seed: u64,
    train: Features,
    test: Option<Features>,
}

/// One task's labelled features.
struct Task {
    name: String,
    train: Labelled,
    test: Labelled,
}

impl<'a> Evaluation<'a> {
    /// Computes the features of `model`, or reads them from `cache`.
    pub fn new(
        model: &Model,
        splits: &'a Splits,
        tasks: &'a [String],
        seed: u64,
        cache: Option<&Path>,
    ) -> anyhow::Result<Self> {
        for task in tasks {
            let columns = || splits.train.tasks().iter().map(|t| task_name(&t.name));
            if !columns().any(|name| name == task_name(task)) {
                splits.train.task(task)?;
            }
        }
        let extractor = Extractor::new(model, cache);
        let features = |dataset: &dyn Dataset| -> anyhow::Result<Features> {
            let features = extractor.features(dataset)?;
            if let Some(&first) = features.left_out().first() {
                let (count, key) = (features.left_out().len(), dataset.key(first));
                output::note(&format!("{count} pictures do not decode and are left out of the evaluation: {key}, …"));
            }
            Ok(features)
        };
        let train = features(splits.train.as_ref())?;
        let test = splits.test.as_ref().map(|test| features(test.as_ref())).transpose()?;
        Ok(Self { splits, tasks, seed, train, test })
    }

    /// The tasks that have labels in both splits; one-shot tasks (no class twice) are left to retrieval.
    fn tasks(&self) -> anyhow::Result<Vec<Task>> {
        let dataset = self.splits.train.as_ref();
        let wanted = |name: &str| self.tasks.is_empty() || self.tasks.iter().any(|t| task_name(t) == task_name(name));
        let mut found = Vec::new();
        for (number, task) in dataset.tasks().iter().enumerate().filter(|(_, task)| wanted(&task.name)) {
            if self.splits.designs.as_ref().is_some_and(|designs| designs.one_shot == task.name) {
                continue;
            }
            let all = Labelled::of_task(&self.train, dataset, number)?;
            let (train, test) = match (&self.splits.test, &self.test) {
                (Some(dataset), Some(features)) => {
                    (all, Labelled::of_task(features, dataset.as_ref(), dataset.task(&task.name)?)?)
                }
                _ => {
                    let (train, test) = split(&all.labels, HELD_OUT, self.seed);
                    (all.select(&train), all.select(&test))
                }
            };
            if test.classes != train.classes {
                return Err(
                    no_labels(&self.splits.name, "its training and test pictures have different classes").into()
                );
            }
            found.push(Task { name: task_name(&task.name), train, test });
        }
        if found.is_empty() && self.splits.designs.is_none() {
            return Err(
                no_labels(&self.splits.name, "it has no labels; put the pictures into class sub-folders").into()
            );
        }
        Ok(found)
    }

    fn row(&self, protocol: &str, task: &Task, right: &[f64], detail: String) -> ResultRow {
        let estimate = bootstrap_mean(right, self.seed);
        let per_class = mean_per_class(right, &task.test.labels, task.test.classes);
        ResultRow {
            protocol: protocol.into(),
            data: self.splits.name.clone(),
            task: task.name.clone(),
            metric: "accuracy".into(),
            value: estimate.value,
            interval: Some(estimate.interval),
            untrained: None,
            chance: Some(majority(&task.test.labels, task.test.classes)),
            detail: format!("{detail}, mean per class {:.1} %, {} test pictures", 100.0 * per_class, right.len()),
        }
    }

    /// The weighted vote of the nearest training pictures on each test picture.
    pub fn knn(&self, config: &KnnConfig) -> anyhow::Result<Vec<ResultRow>> {
        let mut rows = Vec::new();
        for task in self.tasks()? {
            let votes = vote(&task.train, &task.test.features, config)?;
            let ranked: Vec<Vec<u32>> = votes.into_iter().map(|vote| vote.ranked).collect();
            let detail = format!("k {}, T {}", config.k, config.temperature);
            rows.push(self.row("knn", &task, &hits(&ranked, &task.test.labels, 1), detail));
        }
        Ok(rows)
    }

    /// Logistic regression; the penalty is chosen on a stratified fifth of the training pictures.
    pub fn logistic(&self, config: &LogisticConfig) -> anyhow::Result<Vec<ResultRow>> {
        let mut rows = Vec::new();
        for task in self.tasks()? {
            let (train, validation) = split(&task.train.labels, HELD_OUT, self.seed);
            let (train, validation) = (task.train.select(&train), task.train.select(&validation));
            let sweep = sweep(&train, &validation, config)?;
            let right = hits(&sweep.classifier.ranked(&task.test.features)?, &task.test.labels, 1);
            rows.push(self.row("logistic", &task, &right, format!("w {:.2e}", sweep.penalty)));
        }
        Ok(rows)
    }

    /// Nearest neighbours across the two designs, on centred features: `flags` over all flags, `cross-design` over the
    /// test pictures; each over both directions.
    pub fn retrieval(&self) -> anyhow::Result<Vec<ResultRow>> {
        let (Some(designs), Some(test), Some(features)) = (&self.splits.designs, &self.splits.test, &self.test) else {
            return Ok(Vec::new());
        };
        let flags = self.paired(&self.train, self.splits.train.as_ref(), Some(designs.one_shot))?;
        let flags = joined(flags, self.paired(features, test.as_ref(), Some(designs.one_shot))?)?;
        let mut rows = Vec::new();
        for (task, sets) in [("flags", flags), ("cross-design", self.paired(features, test.as_ref(), None)?)] {
            let sets = sets.map(|set| set.centred());
            for k in [1, 5] {
                let mut found = partner_hits(&sets[1], &sets[0], k)?;
                found.extend(partner_hits(&sets[0], &sets[1], k)?);
                let estimate = bootstrap_mean(&found, self.seed);
                rows.push(ResultRow {
                    protocol: "retrieval".into(),
                    data: self.splits.name.clone(),
                    task: task.into(),
                    metric: format!("recall@{k}"),
                    value: estimate.value,
                    interval: Some(estimate.interval),
                    untrained: None,
                    chance: Some(k as f64 / sets[0].rows() as f64),
                    detail: format!("{}, centred features, {} pictures each", designs.about, sets[0].rows()),
                });
            }
        }
        Ok(rows)
    }

    /// The features of both designs in the same order; with `task`, of the pictures that belong to it.
    fn paired(&self, features: &Features, dataset: &dyn Dataset, task: Option<&str>) -> anyhow::Result<[Features; 2]> {
        let task = task.map(|task| dataset.task(task)).transpose()?;
        let half = dataset.len() / 2;
        let chosen: Vec<usize> =
            (0..half).filter(|&i| task.is_none_or(|task| dataset.label(task, i).is_some())).collect();
        let other: Vec<usize> = chosen.iter().map(|i| i + half).collect();
        Ok([features.select(&chosen), features.select(&other)])
    }
}

fn joined(a: [Features; 2], b: [Features; 2]) -> anyhow::Result<[Features; 2]> {
    let [a0, a1] = a;
    let [b0, b1] = b;
    Ok([a0.joined(&b0)?, a1.joined(&b1)?])
}

fn no_labels(name: &str, reason: &str) -> equimod_data::Error {
    equimod_data::Error::DataSet { name: name.into(), reason: reason.into() }
}

/// The measures of equivariance of each module on `dataset`, and their control.
pub fn equivariance(
    model: &Model,
    name: &str,
    dataset: &dyn Dataset,
    pictures: usize,
    seed: u64,
) -> anyhow::Result<Vec<ResultRow>> {
    let mut rows = Vec::new();
    for found in measure(model, dataset, pictures, seed)? {
        let absolute: Vec<f64> = found.rows.iter().map(|row| row.absolute()).collect();
        let interval = bootstrap_mean(&absolute, seed).interval;
        let numbers = [
            ("absolute equivariance", found.measured.absolute, Some(interval)),
            ("absolute equivariance, shuffled parameters", found.shuffled.absolute, None),
            ("relative equivariance", found.measured.relative, None),
            ("relative equivariance, ratio of means", found.measured.ratio_of_means, None),
        ];
        rows.extend(numbers.map(|(metric, value, interval)| ResultRow {
            protocol: "equivariance".into(),
            data: name.into(),
            task: found.module.clone(),
            metric: metric.into(),
            value,
            interval,
            untrained: None,
            chance: None,
            detail: format!("{} pictures, {} views", found.pictures, found.rows.len()),
        }));
    }
    Ok(rows)
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
