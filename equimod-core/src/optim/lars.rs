//! LARS: layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), in the two variants that are in use.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Optimizer;
use super::buffers::Buffers;
use crate::Result;
use crate::ops::{LarsRule, MomentumRule, StepRule};
use crate::params::{Role, Slot};

/// Position of the learning rate in the LARS update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LarsForm {
    /// Inside the momentum buffer, as in the code of EquiMod's authors: a change of the rate does not rescale past
    /// updates.
    #[default]
    Authors,
    /// Outside the momentum buffer, as in the code of Barlow Twins, VICReg and MoCo v3: a change of the rate also
    /// rescales past updates.
    Common,
}

/// Settings of [`Lars`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LarsConfig {
    /// Position of the learning rate in the update. Published: `authors`.
    pub form: LarsForm,
    /// Momentum factor. Published: 0.9.
    pub momentum: f64,
    /// η of the trust ratio `η‖w‖/‖g‖`. Published: 1e-3.
    pub trust_coefficient: f64,
    /// Weight decay of linear and convolution weights. Published: 1e-6 (BYOL on ImageNet: 1.5e-6).
    pub weight_decay: f64,
    /// a, the interpolation between the plain rate (0) and the rate scaled by the trust ratio (1):
    /// `rate·(1 − a) + rate·trust·a`. Published: 1.
    pub adaptation: f64,
    /// Whether to use Nesterov momentum. Published: no.
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

/// LARS. Linear and convolution weights use `g = grad + decay·w` and the trust ratio `η‖w‖/‖g‖`; all other parameters
/// use `g = grad` and the trust ratio 1.
///
/// - [`LarsForm::Authors`]: `buffer = momentum·buffer + (lr·(1 − a) + lr·trust·a)·g`, `w −= buffer`.
/// - [`LarsForm::Common`]: `d = ((1 − a) + trust·a)·g`, `buffer = momentum·buffer + d`, `w −= lr·buffer`, or with
///   Nesterov momentum `w −= lr·(d + momentum·buffer)` (for a = 1, `moco/optimizer.py` of MoCo v3, arXiv 2104.02057).
///
/// The trust ratio is 1 if either norm is 0. The authors' form tests the product of the norms in the parameters'
/// precision, where it can underflow to 0.
pub struct Lars {
    config: LarsConfig,
    momentum: Buffers,
}

impl Lars {
    /// Creates the optimizer with empty momentum buffers.
    pub fn new(config: LarsConfig) -> Self {
        Self { config, momentum: Buffers::new("momentum", None) }
    }
}

impl Optimizer for Lars {
    fn rule(&mut self, name: &str, slot: &Slot, learning_rate: f64) -> Result<(StepRule, Var)> {
        let LarsConfig { form, momentum, nesterov, adaptation, weight_decay, trust_coefficient } = self.config;
        let (inner, outer) = match form {
            LarsForm::Authors => (learning_rate, 1.0),
            LarsForm::Common => (1.0, learning_rate),
        };
        let buffer = self.momentum.of(name, &slot.var)?;
        let step = MomentumRule { momentum, decay: 0.0, inner, outer, nesterov };
        if slot.role != Role::Weight {
            return Ok((StepRule::Momentum(step), buffer));
        }
        let step = MomentumRule { decay: weight_decay, ..step };
        let rule = LarsRule { step, trust_coefficient, adaptation, by_product: form == LarsForm::Authors };
        Ok((StepRule::Lars(rule), buffer))
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.momentum.state()
    }

    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.momentum.load(state)
    }
}
