//! Results of a step.

use candle_core::Tensor;

use crate::params::Gradients;
use crate::step::{Metrics, StepTimes};
use crate::{Result, host};

/// Loss, metrics and gradients of one step, before the optimizer step. All of them stay on the device.
pub struct StepOutcome {
    /// The loss of the whole batch, a scalar.
    pub loss: Tensor,
    /// Named scalars: loss terms, equivariance, the target network's momentum, spread of the embeddings.
    pub metrics: Metrics,
    /// Gradient of every trainable tensor, summed over processes.
    pub gradients: Gradients,
    /// Wall-clock time of each part of the step.
    pub times: StepTimes,
}

/// Loss and metrics of a step as numbers on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct StepValues {
    /// The loss of the whole batch.
    pub loss: f64,
    /// The metrics with their names.
    pub metrics: Vec<(String, f64)>,
}

impl StepValues {
    /// Value of the metric `name`; `None` if there is none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

impl StepOutcome {
    /// Transfers loss and metrics from the device, all at once.
    ///
    /// # Errors
    ///
    /// If the transfer fails.
    pub fn read(&self) -> Result<StepValues> {
        let scalars = self.metrics.iter().map(|(_, scalar)| scalar);
        let values = host::read(&std::iter::once(&self.loss).chain(scalars).collect::<Vec<_>>())?;
        let names = self.metrics.iter().map(|(name, _)| name.clone());
        let metrics = names.zip(values.iter().skip(1).copied()).collect();
        Ok(StepValues { loss: values[0], metrics })
    }
}
