//! Stochastic gradient descent with momentum, equivalent to `torch.optim.SGD`: the learning rate is applied outside the
//! momentum buffer.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use super::Optimizer;
use super::buffers::Buffers;
use crate::Result;
use crate::ops::{MomentumRule, StepRule};
use crate::params::{Role, Slot};

/// Settings of [`Sgd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Momentum factor. Published for the linear evaluation: 0.9.
    pub momentum: f64,
    /// Whether to use Nesterov momentum. Published for the linear evaluation: yes.
    pub nesterov: bool,
    /// Weight decay. Published for the linear evaluation: 0.
    pub weight_decay: f64,
    /// Whether weight decay also applies to biases and batch norm, as in a single PyTorch parameter group.
    pub decay_all: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: true, weight_decay: 0.0, decay_all: false }
    }
}

/// SGD: `g = grad + decay·w`; `buffer = momentum·buffer + g`; `w −= lr·buffer`, or with Nesterov momentum
/// `w −= lr·(g + momentum·buffer)`.
pub struct Sgd {
    config: SgdConfig,
    momentum: Buffers,
}

impl Sgd {
    /// Creates the optimizer with empty momentum buffers.
    pub fn new(config: SgdConfig) -> Self {
        Self { config, momentum: Buffers::new("momentum", None) }
    }
}

impl Optimizer for Sgd {
    fn rule(&mut self, name: &str, slot: &Slot, learning_rate: f64) -> Result<(StepRule, Var)> {
        let SgdConfig { momentum, nesterov, weight_decay, decay_all } = self.config;
        let decay = if slot.role == Role::Weight || decay_all { weight_decay } else { 0.0 };
        let rule = MomentumRule { momentum, decay, inner: 1.0, outer: learning_rate, nesterov };
        Ok((StepRule::Momentum(rule), self.momentum.of(name, &slot.var)?))
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.momentum.state()
    }

    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.momentum.load(state)
    }
}
