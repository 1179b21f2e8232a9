//! Transfer suites: several data sets in one table, described by a TOML file.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;

/// A list of tasks to compare models on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Description of the suite in one line.
    pub about: String,
    /// Tasks in the order of the table.
    #[serde(rename = "task")]
    pub tasks: Vec<SuiteTask>,
}

/// One task of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteTask {
    /// Name of the task, the heading of its column.
    pub name: String,
    /// Source of the images, as `equimod list datasets` lists them.
    pub data: String,
    /// Source of the test images, if it is another one.
    pub test: Option<String>,
    /// Source of the validation images, if it is another one.
    pub validation: Option<String>,
    /// Label column; by default the first of the source. For the protocol `cross-design`: `flags` or `cross-design`.
    pub labels: Option<String>,
    /// Protocol. Default: logistic regression.
    #[serde(default)]
    pub protocol: SuiteProtocol,
    /// Metric of the table. Default: top-1 accuracy.
    #[serde(default)]
    pub metric: SuiteMetric,
}

/// A protocol on frozen features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteProtocol {
    /// Logistic regression by L-BFGS, with the L2 strength chosen on validation.
    #[default]
    Logistic,
    /// Weighted k-nearest-neighbor classification.
    Knn,
    /// Retrieval of an image's partner in the other of two designs: recall@1 on centered features, over both
    /// directions.
    CrossDesign,
}

/// Metric of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteMetric {
    /// Top-1 accuracy; for `cross-design`, recall@1.
    #[default]
    #[serde(alias = "top-1")]
    Top1,
    /// Mean over classes of their accuracy.
    MeanPerClass,
}

impl SuiteTask {
    /// All sources of its images.
    pub fn sources(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.data).chain(&mut self.test).chain(&mut self.validation)
    }
}

impl Suite {
    /// Parses the TOML text of a suite; `name` is for messages.
    ///
    /// # Errors
    /// If the text is not a suite; all problems at once.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let suite: Self = match toml::from_str(text) {
            Ok(suite) => suite,
            Err(error) => return refuse(format!("the suite {name} cannot be read: {}", error.to_string().trim_end())),
        };
        let mut problems = Vec::new();
        if suite.tasks.is_empty() {
            problems.push("it has no [[task]]".to_owned());
        }
        for (i, task) in suite.tasks.iter().enumerate() {
            if suite.tasks[..i].iter().any(|other| other.name == task.name) {
                problems.push(format!("two of its tasks are named {:?}", task.name));
            }
            if task.protocol == SuiteProtocol::CrossDesign && task.metric == SuiteMetric::MeanPerClass {
                problems.push(format!("the task {:?} has no classes to average over; leave metric out", task.name));
            }
        }
        if problems.is_empty() { Ok(suite) } else { refuse(format!("the suite {name}: {}", problems.join("; "))) }
    }
}

/// The rank of each model on one task, 1 for the highest value; equal values share their mean rank, missing ones have
/// none.
pub fn ranks(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let rank = |value: f64| {
        let above = values.iter().flatten().filter(|other| **other > value).count() as f64;
        let equal = values.iter().flatten().filter(|other| **other == value).count() as f64;
        above + (equal + 1.0) / 2.0
    };
    values.iter().map(|value| value.map(rank)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_parsed_and_their_problems_reported() {
        let text = "about = 'a'\n[[task]]\nname = 'one'\ndata = 'emoji'\nmetric = 'mean-per-class'\n";
        let suite = Suite::parse("s", text).unwrap();
        assert_eq!((suite.tasks.len(), suite.tasks[0].protocol), (1, SuiteProtocol::Logistic));
        let problem = |text: &str| Suite::parse("s", text).unwrap_err().to_string();
        assert!(problem(&(text.to_owned() + &text[12..])).contains("two of its tasks are named \"one\""));
        assert!(problem("about = 'a'\ntask = []").contains("no [[task]]"));
        assert!(problem("about = 'a'\n[[task]]\nname = 'x'\ndata = 'e'\nprotocol = 'svm'").contains("unknown variant"));
    }

    #[test]
    fn equal_values_share_a_rank() {
        let ranks = ranks(&[Some(0.5), Some(0.9), None, Some(0.5)]);
        assert_eq!(ranks, [Some(2.5), Some(1.0), None, Some(2.5)]);
    }
}
