//! Optimizers that update parameters in place and whose state can be saved, and schedules of learning rates, target
//! momentum and loss weights.

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
use crate::params::{Gradients, ParamStore, Slot};
use crate::{Result, host};

/// Arguments of an update that are the same for all parameters of a step.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decision whether the update is applied.
    pub gate: &'a Gate,
}

/// An optimizer, which updates parameters from their gradients.
pub trait Optimizer: Send {
    /// Updates the parameter `name` in place from its gradient, of the same shape.
    ///
    /// # Errors
    ///
    /// If the shapes of the parameter, its gradient and its buffers differ, or a tensor operation fails.
    fn update(&mut self, name: &str, slot: &Slot, gradient: &Tensor, update: Update) -> Result<()>;

    /// Begins a step, before its first [`update`](Self::update).
    fn begin_step(&mut self) {}

    /// Updates every parameter that has a gradient, unless `gate` is closed. Each gradient is freed after its use.
    ///
    /// # Errors
    ///
    /// Those of `update`.
    fn gated_step(
        &mut self,
        params: &ParamStore,
        gradients: &mut Gradients,
        learning_rate: f64,
        gate: &Gate,
    ) -> Result<()> {
        self.begin_step();
        for (name, slot) in params.trainable() {
            if let Some(gradient) = gradients.take(name) {
                self.update(name, slot, &gradient, Update { learning_rate, gate })?;
            }
        }
        Ok(())
    }

    /// [`gated_step`](Self::gated_step) with an open gate.
    ///
    /// # Errors
    ///
    /// Those of `gated_step`.
    fn step(&mut self, params: &ParamStore, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        self.gated_step(params, gradients, learning_rate, &Gate::Open)
    }

    /// State for a checkpoint, as tensors named after the parameters.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Replaces the state by one from [`Optimizer::state`].
    ///
    /// # Errors
    ///
    /// If the state has been saved by another kind of optimizer, or a tensor operation fails.
    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()>;
}

/// Choice of the optimizer, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// LARS, layer-wise adaptive rate scaling.
    Lars(LarsConfig),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdConfig),
    /// Adam with decoupled weight decay.
    AdamW(AdamWConfig),
}

/// Squared norm Σ v² of a tensor of any shape, accumulated in f64 on the CPU and in f32 elsewhere.
///
/// # Errors
///
/// If a tensor operation or the transfer from the device fails.
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    Ok(host::read(&[&crate::ops::squared_norm(tensor)?])?[0])
}

impl OptimizerConfig {
    /// Builds the optimizer with empty state.
    pub fn build(&self) -> Box<dyn Optimizer> {
        match self {
            Self::Lars(config) => Box::new(Lars::new(config.clone())),
            Self::Sgd(config) => Box::new(Sgd::new(config.clone())),
            Self::AdamW(config) => Box::new(AdamW::new(config.clone())),
        }
    }

    /// One sentence for each invalid setting; empty if all are valid.
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
