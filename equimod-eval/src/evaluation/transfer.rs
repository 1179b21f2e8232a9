//! Evaluation of one model on a task of a suite, and the table of several models.

use equimod_data::{Splits, task_name};

use super::cross_design::TEST_PAIRS;
use super::{DrawnImages, Evaluation, MEAN_PER_CLASS, TOP_1, distinct_draws};
use crate::error::refuse;
use crate::knn::KnnConfig;
use crate::logistic::{LogisticConfig, l2_strengths};
use crate::report::Table;
use crate::results::SUITE_MEAN;
use crate::suite::{SuiteMetric, SuiteProtocol, SuiteTask, ranks};
use crate::{Error, Result, ResultRow};

impl SuiteTask {
    /// Refuses splits without the labels or designs that the task needs.
    ///
    /// # Errors
    /// If the label column is missing, has fewer than two classes, or the images are not in two designs.
    pub fn check(&self, splits: &Splits) -> Result<()> {
        match (self.protocol, &splits.designs) {
            (SuiteProtocol::CrossDesign, None) => refuse("its images are not in two designs, which cross-design needs"),
            (SuiteProtocol::CrossDesign, Some(_)) => Ok(()),
            _ => {
                let number = splits.train.task(&self.column(splits)?)?;
                let mut labels = (0..splits.train.len()).filter_map(|index| splits.train.label(number, index));
                let first = labels.next();
                match labels.any(|label| Some(label) != first) {
                    true => Ok(()),
                    false => refuse("its training images are not of two classes"),
                }
            }
        }
    }

    /// The name of the label column: that of the task, or the first one.
    fn column(&self, splits: &Splits) -> Result<String> {
        let tasks = splits.train.tasks();
        match (&self.labels, tasks.first()) {
            (None, Some(first)) => Ok(first.name.clone()),
            (None, None) => refuse("its images have no labels"),
            (Some(labels), _) => match tasks.iter().find(|known| task_name(&known.name) == task_name(labels)) {
                Some(known) => Ok(known.name.clone()),
                None => Ok(tasks[splits.train.task(labels)?].name.clone()),
            },
        }
    }
}

impl Evaluation<'_> {
    /// The number of this model for a task of a suite, and the splits that were drawn for it. Logistic regression
    /// chooses among `strengths` L2 strengths.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if the task asks for labels that the data set lacks.
    pub fn suite_task(self, task: &SuiteTask, strengths: usize) -> Result<(ResultRow, Vec<DrawnImages>)> {
        if task.protocol == SuiteProtocol::CrossDesign {
            let wanted = task.labels.as_deref().unwrap_or(TEST_PAIRS);
            let mut rows = self.cross_design()?.into_iter();
            let row = rows.find(|row| row.task == wanted && row.metric == "recall@1");
            let text = format!("the task {} has labels {wanted:?}; give flags or {TEST_PAIRS}", task.name);
            let row = row.ok_or(Error::Protocol(text))?;
            return Ok((ResultRow { task: task.name.clone(), ..row }, Vec::new()));
        }
        let column = task.column(self.splits)?;
        let evaluation = self.tasks([column]);
        let classifications = match task.protocol {
            SuiteProtocol::Knn => evaluation.classify(&KnnConfig::default())?,
            _ => evaluation.classify(&LogisticConfig {
                l2_strengths: l2_strengths(strengths),
                select_by_class: task.metric == SuiteMetric::MeanPerClass,
                ..Default::default()
            })?,
        };
        let metric = match task.metric {
            SuiteMetric::Top1 => TOP_1,
            SuiteMetric::MeanPerClass => MEAN_PER_CLASS,
        };
        let mut rows = classifications.iter().flat_map(|one| one.rows(&evaluation.splits.name, evaluation.seed));
        let row = rows.find(|row| row.metric == metric);
        let row = row.ok_or_else(|| Error::Protocol(format!("the task {} has no {metric}", task.name)))?;
        let labels = if row.task == task.name { String::new() } else { row.task.clone() };
        Ok((ResultRow { task: task.name.clone(), labels, ..row }, distinct_draws(&classifications)))
    }
}

/// The values of several models on the tasks of a suite.
pub struct SuiteTable {
    models: Vec<String>,
    tasks: Vec<String>,
    /// Values `[models, tasks]`.
    values: Vec<Vec<f64>>,
}

impl SuiteTable {
    /// A table of `rows`, which come model by model and, for each model, task by task.
    pub fn new(models: Vec<String>, tasks: Vec<String>, rows: &[ResultRow]) -> Self {
        let values = rows.chunks(tasks.len().max(1)).map(|rows| rows.iter().map(|row| row.value).collect()).collect();
        Self { models, tasks, values }
    }

    /// The mean over tasks of each model's value, and of its rank.
    fn means(&self) -> Vec<(f64, f64)> {
        let column = |task: usize| self.values.iter().map(|values| values.get(task).copied()).collect::<Vec<_>>();
        let ranked: Vec<Vec<Option<f64>>> = (0..self.tasks.len()).map(|task| ranks(&column(task))).collect();
        let count = self.tasks.len().max(1) as f64;
        let mean_rank = |model: usize| ranked.iter().filter_map(|ranks| ranks[model]).sum::<f64>() / count;
        let means = self.values.iter().enumerate();
        means.map(|(model, values)| (values.iter().sum::<f64>() / count, mean_rank(model))).collect()
    }

    /// Two rows a model: its mean over tasks and its mean rank.
    pub fn mean_rows(&self) -> Vec<ResultRow> {
        let row = |model: &String, metric: &str, value: f64| ResultRow {
            model: model.clone(),
            protocol: "transfer".into(),
            task: match self.tasks.len() {
                1 => "1 task".into(),
                count => format!("{count} tasks"),
            },
            metric: metric.into(),
            value,
            ..Default::default()
        };
        let both = |(model, (mean, rank)): (&String, (f64, f64))| {
            [row(model, SUITE_MEAN, mean), row(model, "mean rank", rank)]
        };
        self.models.iter().zip(self.means()).flat_map(both).collect()
    }

    /// A row a model: a value in per cent for each task, the mean and the mean rank. `*` marks the best of a column.
    pub fn table(&self) -> Table {
        let mut headings = vec!["model".to_owned()];
        headings.extend(self.tasks.iter().cloned());
        headings.extend(["mean".to_owned(), "mean rank".to_owned()]);
        let best = |task: usize| self.values.iter().map(|values| values[task]).fold(f64::NEG_INFINITY, f64::max);
        let line = |((model, values), (mean, rank)): ((&String, &Vec<f64>), (f64, f64))| {
            let cell = |(task, value): (usize, &f64)| {
                let mark = if self.models.len() > 1 && *value == best(task) { "*" } else { "" };
                format!("{:.1}{mark}", 100.0 * value)
            };
            let mut cells = vec![model.clone()];
            cells.extend(values.iter().enumerate().map(cell));
            cells.extend([format!("{:.1}", 100.0 * mean), format!("{rank:.2}")]);
            cells
        };
        let rows = self.models.iter().zip(&self.values).zip(self.means()).map(line).collect();
        Table { headings, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_means_ranks_and_the_best_of_each_column() {
        let row = |value| ResultRow { value, ..Default::default() };
        let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let table = SuiteTable::new(names(["a", "b"]), names(["x", "y"]), &[row(0.5), row(0.25), row(0.75), row(0.25)]);
        assert_eq!(table.means(), [(0.375, 1.75), (0.5, 1.25)]);
        assert_eq!(table.table().rows[1], ["b", "75.0*", "25.0*", "50.0", "1.25"]);
        assert_eq!(table.mean_rows().len(), 4);
    }
}
