//! Optimizers that update parameters in place and whose state can be saved, and schedules of learning rates, target
//! momentum and loss weights.

mod adamw;
mod buffers;
mod clip;
mod lars;
mod schedule;
mod sgd;

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

pub use adamw::{AdamW, AdamWConfig};
pub use clip::clip;
pub use lars::{Lars, LarsConfig, LarsForm};
pub use schedule::{LearningRates, Progress, Schedule, TargetMomentum, WarmupCosine, WarmupSteps, Weight};
pub use sgd::{Sgd, SgdConfig};

use crate::ops::{self, Gate, ParameterStep, StepRule};
use crate::params::{Gradients, ParamStore, Slot};
use crate::{Result, host};

/// An optimizer, which updates parameters from their gradients.
pub trait Optimizer: Send {
    /// Rule for the next update of the parameter `name`, and its buffer, which is created on first use.
    ///
    /// # Errors
    ///
    /// If the buffer cannot be created.
    fn rule(&mut self, name: &str, slot: &Slot, learning_rate: f64) -> Result<(StepRule, Var)>;

    /// Begins a step, before its first [`rule`](Self::rule).
    fn begin_step(&mut self) {}

    /// Updates every parameter that has a gradient, unless `gate` is closed. Each gradient is freed after its use.
    ///
    /// # Errors
    ///
    /// If the shapes of a parameter, its gradient and its buffer differ, or a tensor operation fails.
    fn gated_step(
        &mut self,
        params: &ParamStore,
        gradients: &mut Gradients,
        learning_rate: f64,
        gate: &Gate,
    ) -> Result<()> {
        self.begin_step();
        let mut steps = Vec::new();
        for (name, slot) in params.trainable() {
            if let Some(gradient) = gradients.take(name) {
                let (rule, buffer) = self.rule(name, slot, learning_rate)?;
                steps.push(ParameterStep { weight: slot.var.clone(), buffer, gradient, rule });
            }
        }
        Ok(ops::parameter_steps(steps, gate)?)
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
            .map(|(name, share)| format!("optimizer.{name} is {share}; it must be at least 0 and below 1"))
            .collect();
        if weight_decay.is_nan() || weight_decay < 0.0 {
            problems.push(format!("optimizer.weight_decay is {weight_decay}; it must not be negative"));
        }
        match self {
            Self::AdamW(AdamWConfig { epsilon, .. }) if !epsilon.is_finite() || *epsilon <= 0.0 => {
                problems.push(format!("optimizer.epsilon is {epsilon}; it must be above 0"));
            }
            _ => {}
        }
        problems
    }
}
