//! Optimizers that step in place and whose state can be saved, and the schedules of learning rates, momentum and
//! weights.

mod adamw;
mod buffers;
mod clip;
mod lars;
mod schedule;
mod sgd;

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use adamw::{AdamW, AdamWConfig};
pub use clip::clip;
pub use lars::{Lars, LarsConfig, LarsForm};
pub use schedule::{LearningRates, Progress, Schedule, TargetMomentum, WarmupCosine, WarmupSteps, Weight};
pub use sgd::{Sgd, SgdConfig};

use crate::ops::Gate;
use crate::params::{Gradients, ParamStore};
use crate::{Result, host};

/// Moves parameters along their gradients.
pub trait Optimizer: Send {
    /// Updates every parameter that has a gradient in place, unless `gate` is closed; each gradient is freed as it is
    /// used.
    ///
    /// # Errors
    ///
    /// If the shapes of a parameter, its gradient and its buffers differ, or a tensor operation fails.
    fn gated_step(
        &mut self,
        params: &ParamStore,
        gradients: &mut Gradients,
        learning_rate: f64,
        gate: &Gate,
    ) -> Result<()>;

    /// [`gated_step`](Self::gated_step) with an open gate.
    ///
    /// # Errors
    ///
    /// Those of `gated_step`.
    fn step(&mut self, params: &ParamStore, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        self.gated_step(params, gradients, learning_rate, &Gate::Open)
    }

    /// Everything that a checkpoint has to hold, named after the parameters.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Replaces the state by one that [`Optimizer::state`] gave.
    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()>;
}

/// An optimizer with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Layer-wise adaptive rates.
    Lars(LarsConfig),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdConfig),
    /// Adam with decoupled weight decay.
    AdamW(AdamWConfig),
}

/// Σ v² of a tensor, in 64 bits on the CPU and in 32 elsewhere.
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    Ok(host::read(&[&crate::ops::squared_norm(tensor)?])?[0])
}

impl OptimizerConfig {
    /// Builds the optimizer, its state empty.
    pub fn build(&self) -> Box<dyn Optimizer> {
        match self {
            Self::Lars(config) => Box::new(Lars::new(config.clone())),
            Self::Sgd(config) => Box::new(Sgd::new(config.clone())),
            Self::AdamW(config) => Box::new(AdamW::new(config.clone())),
        }
    }

    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        let (shares, weight_decay) = match self {
            Self::Lars(c) => (vec![("momentum", c.momentum)], c.weight_decay),
            Self::Sgd(c) => (vec![("momentum", c.momentum)], c.weight_decay),
            Self::AdamW(c) => (vec![("beta1", c.beta1), ("beta2", c.beta2)], c.weight_decay),
        };
        let outside = shares.into_iter().filter(|(_, share)| !(0.0..1.0).contains(share));
        let mut problems: Vec<String> = outside
            .map(|(name, share)| format!("the optimizer's {name} is {share}; it must be at least 0 and below 1"))
            .collect();
        if weight_decay.is_nan() || weight_decay < 0.0 {
            problems.push(format!("the optimizer's weight decay is {weight_decay}; it must not be negative"));
        }
        match self {
            Self::AdamW(AdamWConfig { epsilon, .. }) if !epsilon.is_finite() || *epsilon <= 0.0 => {
                problems.push(format!("the optimizer's epsilon is {epsilon}; it must be above 0"));
            }
            _ => {}
        }
        problems
    }
}
