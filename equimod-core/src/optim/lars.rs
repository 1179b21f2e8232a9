//! Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), in two forms.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Optimizer;
use super::buffers::Buffers;
use super::momentum::MomentumRule;
use super::norms::squared_norms;
use crate::Result;
use crate::params::{Gradients, ParamStore, Role, Slot};

/// Where the learning rate stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LarsForm {
    /// Inside the momentum, as in the code of EquiMod's authors: a new rate leaves the old updates as they are.
    #[default]
    Authors,
    /// Outside the momentum, as in the code of Barlow Twins, VICReg and MoCo v3: a new rate changes the old updates too.
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
/// - [`LarsForm::Common`]: `d = ((1 − a) + trust·a)·g`, `buffer = momentum·buffer + d`, `w −= lr·buffer`, with Nesterov's
///   rule `w −= lr·(d + momentum·buffer)` (with a = 1 `moco/optimizer.py` of MoCo v3, arXiv 2104.02057).
///
/// Trust is 1 where a norm is 0: in the authors' form where the product of the norms is, in the parameters' own precision.
pub struct Lars {
    config: LarsConfig,
    momentum: Buffers<1>,
}

impl Lars {
    /// An optimiser without momentum yet.
    pub fn new(config: LarsConfig) -> Self {
        Self { config, momentum: Buffers::new("momentum") }
    }

    /// `η‖w‖/‖g‖`, or 1.
    fn trust(&self, weight: &Tensor, gradient: &Tensor) -> Result<f64> {
        let [w, g] = squared_norms(weight, self.config.weight_decay, gradient)?.map(f64::sqrt);
        let positive = match (self.config.form, weight.dtype()) {
            (LarsForm::Common, _) => w > 0.0 && g > 0.0,
            (LarsForm::Authors, DType::F64) => w * g > 0.0,
            (LarsForm::Authors, _) => (w as f32) * (g as f32) > 0.0,
        };
        Ok(if positive { self.config.trust_coefficient * w / g } else { 1.0 })
    }

    fn step_one(&mut self, name: &str, slot: &Slot, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        let LarsConfig { form, momentum, nesterov, adaptation, weight_decay, .. } = self.config;
        let (inside, outer) = match form {
            LarsForm::Authors => (learning_rate, 1.0),
            LarsForm::Common => (1.0, learning_rate),
        };
        let (inner, decay) = match slot.role {
            Role::Weight => {
                let trust = self.trust(&slot.var.as_detached_tensor(), gradient)?;
                (inside * (1.0 - adaptation) + inside * trust * adaptation, weight_decay)
            }
            _ => (inside, 0.0),
        };
        self.momentum.update(name, slot, gradient, MomentumRule { momentum, decay, inner, outer, nesterov })
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
