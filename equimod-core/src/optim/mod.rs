//! Optimisers that step in place and whose state can be saved, and what changes with the step: their learning rate, momentum, weights.

mod in_place;
mod lars;
mod norms;
mod schedule;
mod sgd;

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use lars::{Lars, LarsConfig};
pub use norms::squared_norm;
pub use schedule::{Schedule, TargetMomentum, WarmupCosine, Weight};
pub use sgd::{Sgd, SgdConfig};

use crate::params::ParamStore;
use crate::tape::Gradients;
use crate::{Error, Result};

/// Moves parameters along their gradients.
pub trait Optimizer: Send {
    /// Updates every parameter that has a gradient in place; each gradient is freed as it is used.
    fn step(&mut self, params: &ParamStore, gradients: &mut Gradients, learning_rate: f64) -> Result<()>;

    /// What a checkpoint has to hold, named after the parameters.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Takes over what [`Optimizer::state`] gave.
    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()>;
}

/// Which optimiser, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Layer-wise adaptive rates.
    Lars(LarsConfig),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdConfig),
}

impl OptimizerConfig {
    /// Builds the optimiser, its state empty.
    pub fn build(&self) -> Box<dyn Optimizer> {
        match self {
            Self::Lars(config) => Box::new(Lars::new(config.clone())),
            Self::Sgd(config) => Box::new(Sgd::new(config.clone())),
        }
    }

    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        let (momentum, weight_decay) = match self {
            Self::Lars(c) => (c.momentum, c.weight_decay),
            Self::Sgd(c) => (c.momentum, c.weight_decay),
        };
        let mut problems = Vec::new();
        if !(0.0..1.0).contains(&momentum) {
            problems.push(format!("the optimizer's momentum is {momentum}; it must be at least 0 and below 1"));
        }
        if weight_decay.is_nan() || weight_decay < 0.0 {
            problems.push(format!("the optimizer's weight decay is {weight_decay}; it must not be negative"));
        }
        problems
    }
}

/// Momentum buffers by parameter name.
#[derive(Default)]
struct Momentum(BTreeMap<String, Tensor>);

impl Momentum {
    /// The buffer of `name`; zeros at first.
    fn buffer(&mut self, name: &str, like: &Tensor) -> Result<Tensor> {
        if let Some(buffer) = self.0.get(name) {
            return Ok(buffer.clone());
        }
        let buffer = like.zeros_like()?;
        self.0.insert(name.to_owned(), buffer.clone());
        Ok(buffer)
    }

    fn replace(&mut self, name: &str, buffer: Tensor) {
        self.0.insert(name.to_owned(), buffer);
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.0.iter().map(|(name, buffer)| (format!("momentum.{name}"), buffer.clone())).collect()
    }

    fn load(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.0.clear();
        for (name, tensor) in state {
            let Some(parameter) = name.strip_prefix("momentum.") else {
                return Err(Error::Config(format!("the optimizer's state holds {name}, which is no momentum buffer")));
            };
            self.0.insert(parameter.to_owned(), tensor);
        }
        Ok(())
    }
}
