//! The record of one backbone pass, and the gradients it gives.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::kernels;
use crate::step::Tap;
use crate::{Error, Result};

/// Gradients of the trained tensors by name, in the order of names.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Records the gradient of the parameter `name`; a second one for the same name is an error.
    pub fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        match self.0.insert(name.to_owned(), gradient) {
            None => Ok(()),
            Some(_) => Err(Error::Config(format!("the gradient of {name} was recorded twice"))),
        }
    }

    /// Adds the gradients of another pass over the same parameters.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (name, gradient) in other.0 {
            let sum = match self.0.remove(&name) {
                Some(own) => (own + gradient)?,
                None => gradient,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// The gradient of the parameter `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Removes and returns the gradient of `name`, so that it is freed after use.
    pub fn take(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }

    /// Every gradient, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Multiplies every gradient by `factor`. Their memory may be shared, so that it is left as it is.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = (gradient.detach() * factor)?;
        }
        Ok(())
    }

    /// √(Σ ‖g‖²) over all tensors, in 64 bits.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.values() {
            sum += crate::optim::squared_norm(gradient)?;
        }
        Ok(sum.sqrt())
    }
}

/// What a backbone gives for a batch.
#[derive(Clone, Debug)]
pub struct Features {
    /// The globally averaged output, `[batch, features]`.
    pub pooled: Tensor,
    /// The output of each stage, `[batch, channels, height, width]`.
    pub stages: Vec<Tensor>,
}

impl Features {
    /// The features that `tap` takes, `[batch, features]`.
    pub fn at(&self, tap: Tap) -> Result<Tensor> {
        let Tap::Stage(number) = tap else { return Ok(self.pooled.clone()) };
        let missing = || Error::Config(format!("the backbone has no stage {number}"));
        Ok(kernels::global_average_pool(self.stages.get(tap.index()).ok_or_else(missing)?)?)
    }
}

/// Gradients of the loss with respect to [`Features`]; `None` where nothing reads them.
#[derive(Clone, Debug, Default)]
pub struct FeatureGradients {
    /// `[batch, features]`.
    pub pooled: Option<Tensor>,
    /// `[batch, channels, height, width]` each.
    pub stages: Vec<Option<Tensor>>,
}

/// What a backbone's pass has to do to be carried backwards. Implemented beside each backbone.
pub trait Record {
    /// Consumes the record, freeing it on the way, and gives the gradients of the backbone's parameters.
    fn backward(self: Box<Self>, features: FeatureGradients) -> Result<Gradients>;
}

/// The record of one pass.
pub struct Tape(Box<dyn Record>);

impl Tape {
    /// Wraps a backbone's record.
    pub fn new(record: impl Record + 'static) -> Self {
        Self(Box::new(record))
    }

    /// The gradients of the backbone's parameters for given gradients of its features.
    pub fn backward(self, features: FeatureGradients) -> Result<Gradients> {
        self.0.backward(features)
    }
}
