//! Suites: several data sets, one table. A suite is a TOML file.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;

/// Several tasks that models are compared on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// One line about it.
    pub about: String,
    /// The tasks, in the order of the table.
    #[serde(rename = "task")]
    pub tasks: Vec<SuiteTask>,
}

/// One task of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteTask {
    /// Its column of the table.
    pub name: String,
    /// The pictures: a source of `equimod list datasets`.
    pub data: String,
    /// Test pictures from another source.
    pub test: Option<String>,
    /// Validation pictures from another source.
    pub validation: Option<String>,
    /// The labels; the first of the source if left out. Of `cross-design`: `flags` or `cross-design`.
    pub labels: Option<String>,
    /// How it is evaluated.
    #[serde(default)]
    pub protocol: SuiteProtocol,
    /// The number that counts.
    #[serde(default)]
    pub metric: SuiteMetric,
}

/// A protocol on frozen features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteProtocol {
    /// Logistic regression by L-BFGS, the penalty chosen on validation.
    #[default]
    Logistic,
    /// Weighted vote of the nearest neighbours.
    Knn,
    /// The partner of a picture in the other of two designs: recall@1 on centred features, both directions.
    CrossDesign,
}

/// The number that counts for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteMetric {
    /// Share of test pictures that are right; of `cross-design`, recall@1.
    #[default]
    Top1,
    /// Its mean over classes.
    MeanPerClass,
}

impl SuiteTask {
    /// Where its pictures are.
    pub fn sources(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.data).chain(&mut self.test).chain(&mut self.validation)
    }
}

impl Suite {
    /// Reads the text of a suite that is called `name`; every problem that its form shows at once.
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
                problems.push(format!("two of its tasks are called {:?}", task.name));
            }
            if task.protocol == SuiteProtocol::CrossDesign && task.metric == SuiteMetric::MeanPerClass {
                problems.push(format!("the task {:?} has no classes to take a mean over; leave metric out", task.name));
            }
        }
        if problems.is_empty() { Ok(suite) } else { refuse(format!("the suite {name}: {}", problems.join("; "))) }
    }
}

/// The rank of each model on one task, 1 the best; equal values share the mean of their ranks. A value that is missing has no
/// rank.
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
    fn suites_are_read_and_their_problems_told() {
        let text = "about = 'a'\n[[task]]\nname = 'one'\ndata = 'emoji'\nmetric = 'mean-per-class'\n";
        let suite = Suite::parse("s", text).unwrap();
        assert_eq!((suite.tasks.len(), suite.tasks[0].protocol), (1, SuiteProtocol::Logistic));
        let told = |text: &str| Suite::parse("s", text).unwrap_err().to_string();
        assert!(told(&(text.to_owned() + &text[12..])).contains("two of its tasks are called \"one\""));
        assert!(told("about = 'a'\ntask = []").contains("no [[task]]"));
        assert!(told("about = 'a'\n[[task]]\nname = 'x'\ndata = 'e'\nprotocol = 'svm'").contains("unknown variant"));
    }

    #[test]
    fn equal_values_share_a_rank() {
        let ranks = ranks(&[Some(0.5), Some(0.9), None, Some(0.5)]);
        assert_eq!(ranks, [Some(2.5), Some(1.0), None, Some(2.5)]);
    }
}
