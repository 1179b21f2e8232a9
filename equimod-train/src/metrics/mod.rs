//! Where a run's numbers go.

mod jsonl;
mod tensorboard;

use std::time::Duration;

pub use jsonl::{JsonLines, TextLog, cut};
pub use tensorboard::TensorBoard;

use crate::Result;
use crate::speed::Pace;

/// One optimiser step.
#[derive(Clone, Debug, Default)]
pub struct StepReport {
    /// Steps taken so far, this one included.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// From 1.
    pub epoch: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// The rate of this step.
    pub learning_rate: f64,
    /// The loss before the update.
    pub loss: f64,
    /// Norm of the gradient over all tensors, before clipping.
    pub gradient_norm: f64,
    /// Named scalars of objective and modules.
    pub metrics: Vec<(String, f64)>,
    /// Of the last steps.
    pub pace: Pace,
    /// Until the end, at the pace of the last steps.
    pub remaining: Duration,
}

impl StepReport {
    /// The metric `name`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// Steps taken so far.
    pub step: u64,
    /// Epochs that are done.
    pub epoch: u64,
    /// Named scores, the higher the better.
    pub scores: Vec<(String, f64)>,
}

/// Takes a run's numbers: a file, a display.
pub trait Sink {
    /// After every step.
    fn step(&mut self, report: &StepReport) -> Result<()>;

    /// After every probe.
    fn probe(&mut self, report: &ProbeReport) -> Result<()>;

    /// Something to tell once.
    fn note(&mut self, text: &str) -> Result<()>;

    /// At the end, and before every checkpoint: everything is on disk afterwards.
    fn flush(&mut self) -> Result<()>;
}
