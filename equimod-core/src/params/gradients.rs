//! Gradients by parameter name.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::{Error, Result, ops};

/// Receiver of gradients, in the order in which a backward pass computes them.
pub trait GradientSink {
    /// Takes the gradient of the parameter `name`, in the shape of the parameter. Each parameter has one gradient in a
    /// backward pass.
    ///
    /// # Errors
    ///
    /// If there is a gradient of that name already, or the sink fails to pass it on.
    fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()>;
}

/// Gradients of the trainable tensors by name, in the order of names. Each has the shape of its parameter.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds the gradient of the parameter `name`, in the parameter's shape.
    ///
    /// # Errors
    ///
    /// If there already is a gradient of that name.
    pub fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        match self.0.insert(name.to_owned(), gradient) {
            None => Ok(()),
            Some(_) => Err(Error::Duplicate { kind: "gradient", name: name.into() }),
        }
    }

    /// Passes every gradient to `sink`, in the order of names.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn hand_over(self, sink: &mut dyn GradientSink) -> Result<()> {
        self.0.into_iter().try_for_each(|(name, gradient)| sink.insert(&name, gradient))
    }

    /// Accumulates the gradients of another pass over the same parameters.
    ///
    /// # Errors
    ///
    /// If the shapes of two gradients of the same parameter differ.
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

    /// Gradient of the parameter `name`; `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Removes and returns the gradient of the parameter `name`, so that it is freed after use.
    pub fn take(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }

    /// All gradients in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Multiplies every gradient by the scalar `factor` `[]`, which stays on its device. The results are new tensors,
    /// because the gradients may share storage.
    ///
    /// # Errors
    ///
    /// If the gradients have different types or devices, or a tensor operation fails; then no gradient is left.
    pub fn scale_by(&mut self, factor: &Tensor) -> Result<()> {
        let (names, gradients): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().unzip();
        self.0 = names.into_iter().zip(ops::scaled(gradients, factor)?).collect();
        Ok(())
    }

    /// Multiplies every gradient by `factor`. The results are new tensors, because the gradients may share storage.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = (gradient.detach() * factor)?;
        }
        Ok(())
    }
}

impl IntoIterator for Gradients {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl GradientSink for Gradients {
    fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        Self::insert(self, name, gradient)
    }
}
