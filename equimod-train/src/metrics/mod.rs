//! Loggers of a run: JSON lines, CSV, text, TensorBoard.

mod csv;
mod jsonl;
mod tensorboard;

use std::time::Duration;

pub use self::csv::Csv;
pub use jsonl::{JsonLines, TextLog, cut};
pub use tensorboard::TensorBoard;

use crate::Result;
use crate::speed::Pace;

/// Numbers of one optimizer step.
#[derive(Clone, Debug, Default)]
pub struct StepReport {
    /// Number of steps so far, including this one.
    pub step: u64,
    /// Number of steps of the whole run.
    pub total_steps: u64,
    /// Current epoch, from 1.
    pub epoch: u64,
    /// Number of epochs of the whole run.
    pub epochs: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Loss before the update.
    pub loss: f64,
    /// Norm of the gradient over all tensors, before clipping.
    pub gradient_norm: f64,
    /// Named scalars of the objective and the modules.
    pub metrics: Vec<(String, f64)>,
    /// Throughput of the most recent steps.
    pub pace: Pace,
    /// Estimated time to the end of the run, at that throughput.
    pub remaining: Duration,
}

impl StepReport {
    /// Value of the metric `name`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

/// Scores of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// Number of steps so far.
    pub step: u64,
    /// Number of completed epochs.
    pub epoch: u64,
    /// Named scores; higher is better.
    pub scores: Vec<(String, f64)>,
}

/// A logger of a run: a file or a display.
pub trait Sink {
    /// Logs a step.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn step(&mut self, report: &StepReport) -> Result<()>;

    /// Logs a probe; by default, nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn probe(&mut self, _: &ProbeReport) -> Result<()> {
        Ok(())
    }

    /// Logs a message; by default, nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn note(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    /// Writes everything to disk, if anything waits; called at the end and before every checkpoint.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes a warning of the sink itself, which goes to all sinks as a message; asked for after every log step.
    fn warning(&mut self) -> Option<String> {
        None
    }
}
