//! Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), in two forms.

use std::collections::BTreeMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Optimizer;
use super::buffers::Buffers;
use crate::Result;
use crate::ops::{self, Gate, LarsRule, MomentumRule};
use crate::params::{Gradients, ParamStore, Role, Slot};

/// Where the learning rate stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LarsForm {
    /// Inside the momentum, as in the code of EquiMod's authors: a new rate leaves the old updates as they are.
    #[default]
    Authors,
    /// Outside the momentum, as in the code of Barlow Twins, VICReg and MoCo v3: a new rate changes old updates too.
    Common,
}

/// Settings of [`Lars`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LarsConfig {
    /// Where the learning rate stands. Published: `authors`.
    pub form: LarsForm,
    /// Share of the old update that is kept. Published: 0.9.
    pub momentum: f64,
    /// η of the trust ratio `η‖w‖/‖g‖`. Published: 1e-3.
    pub trust_coefficient: f64,
    /// Weight decay of linear and convolution weights. Published: 1e-6 (BYOL on ImageNet: 1.5e-6).
    pub weight_decay: f64,
    /// a: how much of the rate is adapted, `rate·(1 − a) + rate·trust·a`. Published: 1.
    pub adaptation: f64,
    /// Whether to look ahead by Nesterov's rule. Published: no.
    pub nesterov: bool,
}

impl Default for LarsConfig {
    fn default() -> Self {
        Self {
            form: LarsForm::Authors,
            momentum: 0.9,
            trust_coefficient: 1e-3,
            weight_decay: 1e-6,
            adaptation: 1.0,
            nesterov: false,
        }
    }
}

/// For linear and convolution weights `g = grad + decay·w` and trust `η‖w‖/‖g‖`, for all others `g = grad` and trust 1.
///
/// - [`LarsForm::Authors`]: `buffer = momentum·buffer + (lr·(1 − a) + lr·trust·a)·g`, `w −= buffer`.
/// - [`LarsForm::Common`]: `d = ((1 − a) + trust·a)·g`, `buffer = momentum·buffer + d`, `w −= lr·buffer`, or by
///   Nesterov's rule `w −= lr·(d + momentum·buffer)` (with a = 1 `moco/optimizer.py` of MoCo v3, arXiv 2104.02057).
///
/// Trust is 1 where a norm is 0: in the authors' form where the product of the norms is, in the parameters' own
/// precision.
pub struct Lars {
    config: LarsConfig,
    momentum: Buffers,
}

impl Lars {
    /// An optimizer without momentum yet.
    pub fn new(config: LarsConfig) -> Self {
        Self { config, momentum: Buffers::new("momentum", None) }
    }

    fn step_one(&mut self, name: &str, slot: &Slot, gradient: &Tensor, learning_rate: f64, gate: &Gate) -> Result<()> {
        let LarsConfig { form, momentum, nesterov, adaptation, weight_decay, trust_coefficient } = self.config;
        let (inner, outer) = match form {
            LarsForm::Authors => (learning_rate, 1.0),
            LarsForm::Common => (1.0, learning_rate),
        };
        let buffer = self.momentum.of(name, &slot.var)?;
        let step = MomentumRule { momentum, decay: 0.0, inner, outer, nesterov };
        if slot.role != Role::Weight {
            return Ok(ops::momentum_step(&slot.var, &buffer, gradient, &step, gate)?);
        }
        let step = MomentumRule { decay: weight_decay, ..step };
        let rule = LarsRule { step, trust_coefficient, adaptation, by_product: form == LarsForm::Authors };
        Ok(ops::lars_step(&slot.var, &buffer, gradient, &rule, gate)?)
    }
}

impl Optimizer for Lars {
    fn gated_step(
        &mut self,
        params: &ParamStore,
        gradients: &mut Gradients,
        learning_rate: f64,
        gate: &Gate,
    ) -> Result<()> {
        for (name, slot) in params.trainable() {
            if let Some(gradient) = gradients.take(name) {
                self.step_one(name, slot, &gradient, learning_rate, gate)?;
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
