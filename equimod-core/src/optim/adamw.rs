//! Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), equivalent to `torch.optim.AdamW`.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Optimizer;
use super::buffers::Buffers;
use crate::ops::{AdamWRule, StepRule};
use crate::params::{Role, Slot};
use crate::{Error, Result};

/// Settings of [`AdamW`]. The defaults are PyTorch's, except that only weights decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// β1, the decay rate of the running average of gradients.
    pub beta1: f64,
    /// β2, the decay rate of the running average of squared gradients.
    pub beta2: f64,
    /// ε, added to the denominator for numerical stability.
    pub epsilon: f64,
    /// Weight decay of linear and convolution weights, multiplied by the learning rate. PyTorch's default: 0.01.
    pub weight_decay: f64,
    /// Whether weight decay also applies to biases and batch norm, as in a single PyTorch parameter group.
    pub decay_all: bool,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, decay_all: false }
    }
}

/// AdamW. At step t, counted from 1: `m = β1·m + (1 − β1)·grad`; `v = β2·v + (1 − β2)·grad²`;
/// `w = w − lr·decay·w − lr·m̂/(√v̂ + ε)` with `m̂ = m/(1 − β1ᵗ)` and `v̂ = v/(1 − β2ᵗ)` (arXiv 1711.05101, with the
/// decay multiplied by the learning rate as in PyTorch).
///
/// All parameters share one step counter, which is exact for parameters that have a gradient at every step.
pub struct AdamW {
    config: AdamWConfig,
    moments: Buffers,
    steps: u64,
}

/// Name of the step counter in a checkpoint.
const STEPS: &str = "steps";

impl AdamW {
    /// Creates the optimizer before its first step.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, moments: Buffers::new("moments", Some(2)), steps: 0 }
    }

    fn adamw(&self, slot: &Slot, learning_rate: f64) -> AdamWRule {
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, decay_all } = self.config;
        let decay = if slot.role == Role::Weight || decay_all { weight_decay } else { 0.0 };
        // β < 1 raised to a power beyond the range of i32 is 0.
        let share = |beta: f64| 1.0 - beta.powi(self.steps.try_into().unwrap_or(i32::MAX));
        AdamWRule {
            beta1,
            beta2,
            epsilon,
            kept: 1.0 - learning_rate * decay,
            rate: learning_rate / share(beta1),
            root: share(beta2).sqrt(),
        }
    }
}

impl Optimizer for AdamW {
    fn begin_step(&mut self) {
        self.steps += 1;
    }

    fn rule(&mut self, name: &str, slot: &Slot, learning_rate: f64) -> Result<(StepRule, Var)> {
        Ok((StepRule::AdamW(self.adamw(slot, learning_rate)), self.moments.of(name, &slot.var)?))
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        // A scalar tensor on the CPU cannot fail.
        let steps = Tensor::new(self.steps as i64, &Device::Cpu).ok();
        self.moments.state().into_iter().chain(steps.map(|steps| (STEPS.to_owned(), steps))).collect()
    }

    #[allow(clippy::disallowed_methods, reason = "once, when a run is resumed")]
    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        let unusable = |problem: String| Error::OptimizerState { entry: STEPS.into(), problem };
        let missing = || unusable("holds no number of steps, so AdamW did not save it".into());
        let steps = state.remove(STEPS).ok_or_else(missing)?.to_scalar::<i64>()?;
        let negative = |_| unusable(format!("is that after {steps} steps"));
        self.steps = steps.try_into().map_err(negative)?;
        self.moments.load(state)
    }
}
