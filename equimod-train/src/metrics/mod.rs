//! Where a run's numbers go.

mod jsonl;

use std::time::Duration;

pub use jsonl::{JsonLines, TextLog};

use crate::Result;

/// One optimiser step.
#[derive(Clone, Debug)]
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
    /// Norm of the gradient over all tensors.
    pub gradient_norm: f64,
    /// Named scalars of objective and modules.
    pub metrics: Vec<(String, f64)>,
    /// Time spent training in this process.
    pub elapsed: Duration,
    /// Pictures a second, over the last steps.
    pub images_per_second: f64,
    /// Share of the time in which the step waited for data, over the last steps.
    pub wait_share: f64,
    /// Until the end, at the speed of the last steps.
    pub remaining: Duration,
}

impl StepReport {
    /// The metric `name`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

/// Takes a run's numbers: a file, a display.
pub trait Sink {
    /// After every step.
    fn step(&mut self, report: &StepReport) -> Result<()>;

    /// Something to tell once.
    fn note(&mut self, text: &str) -> Result<()>;

    /// At the end, and before every checkpoint: everything is on disk afterwards.
    fn flush(&mut self) -> Result<()>;
}
