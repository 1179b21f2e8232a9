//! The file `study.json`: every raw number of a study.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Hits;
use crate::error::refuse;
use crate::results::{ResultRow, signed};
use crate::{Error, Result};

/// Version of the layout that this code writes.
pub const FORMAT: u32 = 1;

/// The file `study.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// Version of this layout.
    pub format: u32,
    /// Version of equimod.
    pub version: String,
    /// Name of the study.
    pub name: String,
    /// One-line description.
    pub about: String,
    /// Source of the training images.
    pub data: String,
    /// Rule by which the cells are matched: `steps`, `flops` or `none`.
    pub matched_by: String,
    /// Seeds of each cell.
    pub seeds: Vec<u64>,
    /// Evaluations of each run, as `equimod eval` takes them.
    pub evaluations: Vec<String>,
    /// Measures; each run has one value for each.
    pub measures: Vec<Measure>,
    /// Cells in the order of the study's file.
    pub cells: Vec<Cell>,
}

/// A number that every run has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Protocol.
    pub protocol: String,
    /// Data set.
    pub data: String,
    /// Label column, module or augmentation parameter.
    pub task: String,
    /// Metric.
    pub metric: String,
    /// Chance level.
    pub chance: Option<f64>,
}

/// A combination of settings, with a run for each seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name.
    pub name: String,
    /// Settings in which it differs from the study's recipe.
    pub settings: Vec<String>,
    /// Cells that it is compared with, one for each baseline of the study. A baseline has itself in its place.
    pub baselines: Vec<String>,
    /// Images in a step of the backbone, e.g. `3B` with the original images, which are in the statistics of batch norm.
    pub images: String,
    /// Number of trained parameters.
    pub parameters: usize,
    /// Floating-point operations of a step; `None` if the backbone does not count its own.
    pub flops: Option<f64>,
    /// Number of epochs.
    pub epochs: u64,
    /// Number of steps.
    pub steps: u64,
    /// Runs in the order of the seeds.
    pub runs: Vec<Run>,
}

/// State of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not trained and evaluated to its end yet.
    #[default]
    Open,
    /// Trained and evaluated.
    Finished,
    /// As finished, but with collapsed embeddings at the end.
    Collapsed,
    /// Ended by a loss or gradient that was not finite; it has no values.
    Diverged,
}

/// One seed of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Seed.
    pub seed: u64,
    /// State.
    pub state: State,
    /// Remark on the state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// Hexadecimal SHA-256 of the settings in which the recipe differs from the defaults.
    pub recipe: String,
    /// Hexadecimal SHA-256 of the training images.
    pub images: String,
    /// Values of the study's measures.
    pub values: Vec<Option<f64>>,
    /// Predictions on test images, for measures of protocols that classify.
    pub hits: Vec<Hits>,
    /// Means of metrics over equal intervals of the training.
    pub curves: BTreeMap<String, Vec<f64>>,
    /// Training time in seconds.
    pub seconds: f64,
    /// Peak memory in bytes.
    pub peak_memory: u64,
    /// Device.
    pub device: String,
}

impl StudyRecord {
    /// Reads the bytes of `study.json`; `name` is for messages.
    ///
    /// # Errors
    /// If they are not a study of this format, or contradict themselves.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::Protocol(format!("{name} is not the study.json of a study: {error}")))?;
        if record.format != FORMAT {
            return refuse(format!("{name} has format {}, this version reads {FORMAT}", record.format));
        }
        record.check(name)?;
        Ok(record)
    }

    /// The bytes of `study.json`.
    pub fn to_json(&self) -> Vec<u8> {
        // Serializing plain structs of numbers and strings does not fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The cell called `name`.
    pub fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.name == name)
    }

    fn check(&self, name: &str) -> Result<()> {
        for cell in &self.cells {
            let place = format!("{name}: the cell {}", cell.name);
            if let Some(unknown) = cell.baselines.iter().find(|baseline| self.cell(baseline).is_none()) {
                return refuse(format!("{place} is compared with {unknown}, which the file lacks"));
            }
            if cell.baselines.len() != self.cells[0].baselines.len() {
                return refuse(format!("{place} has another number of baselines than the first cell"));
            }
            for run in &cell.runs {
                let has_values = run.values.is_empty() || run.values.len() == self.measures.len();
                if !has_values || run.hits.iter().any(|hits| hits.measure >= self.measures.len()) {
                    return refuse(format!("{place}, seed {}: its values do not fit the measures", run.seed));
                }
            }
        }
        Ok(())
    }
}

impl Measure {
    /// The measure of a result row.
    pub fn of(row: &ResultRow) -> Self {
        Self {
            protocol: row.protocol.clone(),
            data: row.data.clone(),
            task: row.task.clone(),
            metric: row.metric.clone(),
            chance: row.chance,
        }
    }

    /// Whether it is the same number as `other`, whatever the chance level.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { protocol, data, task, metric, .. } = other;
        (&self.protocol, &self.data, &self.task, &self.metric) == (protocol, data, task, metric)
    }

    /// A value as text, shares in per cent and without unit.
    pub fn text(&self, value: f64) -> String {
        if self.is_share() { format!("{:.1}", 100.0 * value) } else { format!("{value:.3}") }
    }

    /// A difference as text with its sign; of shares in points.
    pub fn signed(&self, value: f64) -> String {
        if self.is_share() { signed(100.0 * value, 1) } else { signed(value, 3) }
    }

    /// Whether the value is shown in per cent.
    pub fn is_share(&self) -> bool {
        ResultRow { metric: self.metric.clone(), ..Default::default() }.is_share()
    }

    /// Name in tables: task, metric and protocol.
    pub fn title(&self) -> String {
        format!("{}, {} ({})", self.task, self.metric, self.protocol)
    }
}

impl Run {
    /// Value of the measure with this index.
    pub fn value(&self, measure: usize) -> Option<f64> {
        self.values.get(measure).copied().flatten().filter(|value| value.is_finite())
    }

    /// Predictions behind the measure with this index.
    pub fn hits(&self, measure: usize) -> Option<Vec<f64>> {
        self.hits.iter().find(|hits| hits.measure == measure)?.unpack()
    }
}

impl Cell {
    /// The run of a seed.
    pub fn run(&self, seed: u64) -> Option<&Run> {
        self.runs.iter().find(|run| run.seed == seed)
    }

    /// Runs that did not finish soundly, in words; empty if all did.
    pub fn state(&self) -> String {
        let named = [(State::Diverged, "diverged"), (State::Collapsed, "collapsed"), (State::Open, "open")];
        let count = |state: State| self.runs.iter().filter(|run| run.state == state).count();
        let parts = named.into_iter().map(|(state, name)| (count(state), name)).filter(|(count, _)| *count > 0);
        parts.map(|(count, name)| format!("{count} of {} {name}", self.runs.len())).collect::<Vec<_>>().join(", ")
    }
}
