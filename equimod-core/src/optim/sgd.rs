//! Stochastic gradient descent with momentum, as `torch.optim.SGD`: the learning rate is outside the momentum.

use std::collections::BTreeMap;

use candle_core::Tensor;
use num_traits::Float;
use serde::{Deserialize, Serialize};

use super::in_place::{Rule, constant, step};
use super::{Momentum, Optimizer};
use crate::Result;
use crate::params::{ParamStore, Role, Slot};
use crate::tape::Gradients;

/// Settings of [`Sgd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Share of the old direction that is kept. Published for the linear evaluation: 0.9.
    pub momentum: f64,
    /// Whether to look ahead by Nesterov's rule. Published for the linear evaluation: yes.
    pub nesterov: bool,
    /// Weight decay. Published for the linear evaluation: 0.
    pub weight_decay: f64,
    /// Whether biases and batch norm decay too, as every parameter of one PyTorch group does.
    pub decay_all: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: true, weight_decay: 0.0, decay_all: false }
    }
}

/// `g = grad + decay·w`; `buffer = momentum·buffer + g`; `w −= lr·buffer`, or with Nesterov's rule
/// `w −= lr·(g + momentum·buffer)`.
pub struct Sgd {
    config: SgdConfig,
    momentum: Momentum,
}

impl Sgd {
    /// An optimiser without momentum yet.
    pub fn new(config: SgdConfig) -> Self {
        Self { config, momentum: Momentum::default() }
    }

    fn step_one(&mut self, name: &str, slot: &Slot, gradient: &Tensor, rate: f64) -> Result<()> {
        let SgdConfig { momentum, nesterov, weight_decay, decay_all } = self.config;
        let decay = if slot.role == Role::Weight || decay_all { weight_decay } else { 0.0 };
        let weight = slot.var.as_detached_tensor();
        let buffer = self.momentum.buffer(name, &weight)?;
        if weight.device().is_cpu() {
            return step(&weight, &buffer, gradient, SgdRule { momentum, decay, rate, nesterov });
        }
        let direction = (gradient + (&weight * decay)?)?;
        let buffer = ((buffer * momentum)? + &direction)?;
        let moved = if nesterov { (direction + (&buffer * momentum)?)? } else { buffer.clone() };
        slot.var.set(&(weight - (moved * rate)?)?)?;
        self.momentum.replace(name, buffer);
        Ok(())
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &ParamStore, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        for (name, slot) in params.trainable() {
            if let Some(gradient) = gradients.take(name) {
                self.step_one(name, slot, &gradient, learning_rate)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.momentum.state()
    }

    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.momentum.load(state)
    }
}

struct SgdRule {
    momentum: f64,
    decay: f64,
    rate: f64,
    nesterov: bool,
}

impl Rule for SgdRule {
    #[inline(always)]
    fn step<T: Float>(&self, weight: &mut T, buffer: &mut T, gradient: T) {
        let momentum = constant::<T>(self.momentum);
        let direction = gradient + constant::<T>(self.decay) * *weight;
        *buffer = momentum * *buffer + direction;
        let moved = if self.nesterov { direction + momentum * *buffer } else { *buffer };
        *weight = *weight - constant::<T>(self.rate) * moved;
    }
}
