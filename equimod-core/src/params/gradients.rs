//! Gradients by the names of their parameters.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::{Error, Result};

/// Gradients of the trained tensors by name, in the order of names.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Records the gradient of the parameter `name`; a second one for the same name is an error.
    pub fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        match self.0.insert(name.to_owned(), gradient) {
            None => Ok(()),
            Some(_) => Err(Error::Duplicate { kind: "gradient", name: name.into() }),
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

    /// Multiplies every gradient by a scalar that stays on its device.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn scale_by(&mut self, factor: &Tensor) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = gradient.detach().broadcast_mul(&factor.to_dtype(gradient.dtype())?)?;
        }
        Ok(())
    }

    /// Multiplies every gradient by `factor`, into new tensors: their storage may be shared.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = (gradient.detach() * factor)?;
        }
        Ok(())
    }
}
