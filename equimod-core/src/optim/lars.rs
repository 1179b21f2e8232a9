//! Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), in the form of EquiMod's authors: the learning
//! rate is inside the momentum.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use num_traits::Float;
use serde::{Deserialize, Serialize};

use super::in_place::{Rule, constant, step};
use super::norms::squared_norms;
use super::{Momentum, Optimizer};
use crate::Result;
use crate::params::{ParamStore, Role, Slot};
use crate::tape::Gradients;

/// Settings of [`Lars`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LarsConfig {
    /// Share of the old update that is kept. Published: 0.9.
    pub momentum: f64,
    /// η of the trust ratio `η‖w‖/‖g‖`. Published: 1e-3.
    pub trust_coefficient: f64,
    /// Weight decay of linear and convolution weights. Published: 1e-6 (BYOL on ImageNet: 1.5e-6).
    pub weight_decay: f64,
    /// How much of the rate is adapted: `rate·(1 − a) + rate·trust·a`. Published: 1.
    pub adaptation: f64,
    /// Whether to look ahead by Nesterov's rule. Published: no.
    pub nesterov: bool,
}

impl Default for LarsConfig {
    fn default() -> Self {
        Self { momentum: 0.9, trust_coefficient: 1e-3, weight_decay: 1e-6, adaptation: 1.0, nesterov: false }
    }
}

/// For linear and convolution weights `g = grad + decay·w`, `rate = lr·trust`; for all others `g = grad`, `rate = lr`;
/// then `buffer = momentum·buffer + rate·g` (the first time without the old buffer) and `w −= buffer`.
pub struct Lars {
    config: LarsConfig,
    momentum: Momentum,
}

impl Lars {
    /// An optimiser without momentum yet.
    pub fn new(config: LarsConfig) -> Self {
        Self { config, momentum: Momentum::default() }
    }

    /// `lr·(1 − a) + lr·trust·a` with trust `η‖w‖/‖g‖` where the product of the norms, in the parameters' own
    /// precision, is above 0, else 1.
    fn rate(&self, weight: &Tensor, gradient: &Tensor, learning_rate: f64) -> Result<f64> {
        let [w, g] = squared_norms(weight, self.config.weight_decay, gradient)?.map(f64::sqrt);
        let positive = match weight.dtype() {
            DType::F64 => w * g > 0.0,
            _ => (w as f32) * (g as f32) > 0.0,
        };
        let trust = if positive { self.config.trust_coefficient * w / g } else { 1.0 };
        let adaptation = self.config.adaptation;
        Ok(learning_rate * (1.0 - adaptation) + learning_rate * trust * adaptation)
    }

    fn step_one(&mut self, name: &str, slot: &Slot, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        let weight = slot.var.as_detached_tensor();
        let (rate, decay) = match slot.role {
            Role::Weight => (self.rate(&weight, gradient, learning_rate)?, self.config.weight_decay),
            _ => (learning_rate, 0.0),
        };
        let buffer = self.momentum.buffer(name, &weight)?;
        if weight.device().is_cpu() {
            let LarsConfig { momentum, nesterov, .. } = self.config;
            return step(&weight, &buffer, gradient, LarsRule { momentum, rate, decay, nesterov });
        }
        let direction = ((gradient + (&weight * decay)?)? * rate)?;
        let buffer = ((buffer * self.config.momentum)? + &direction)?;
        let moved = match self.config.nesterov {
            true => (direction + (&buffer * self.config.momentum)?)?,
            false => buffer.clone(),
        };
        slot.var.set(&(weight - moved)?)?;
        self.momentum.replace(name, buffer);
        Ok(())
    }
}

impl Optimizer for Lars {
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

/// `direction = rate·(gradient + decay·weight)`, `buffer ← momentum·buffer + direction`, and `weight ← weight − buffer`,
/// or with Nesterov's rule `weight − (direction + momentum·buffer)`.
struct LarsRule {
    momentum: f64,
    rate: f64,
    decay: f64,
    nesterov: bool,
}

impl Rule for LarsRule {
    #[inline(always)]
    fn step<T: Float>(&self, weight: &mut T, buffer: &mut T, gradient: T) {
        let momentum = constant::<T>(self.momentum);
        let direction = constant::<T>(self.rate) * (gradient + constant::<T>(self.decay) * *weight);
        *buffer = momentum * *buffer + direction;
        *weight = *weight - if self.nesterov { direction + momentum * *buffer } else { *buffer };
    }
}
