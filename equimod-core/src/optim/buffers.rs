//! What an optimiser remembers of each parameter, and its step over one.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::in_place::{Rule, step};
use crate::params::Slot;
use crate::{Error, Result};

/// N values for each value of a parameter, by the parameter's name: tensors of its shape, with N as a last dimension if
/// there are several.
pub(super) struct Buffers<const N: usize> {
    /// What their names in a checkpoint begin with.
    prefix: &'static str,
    by_name: BTreeMap<String, Tensor>,
}

impl<const N: usize> Buffers<N> {
    /// None yet; in a checkpoint they are called `<prefix>.<parameter>`.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, by_name: BTreeMap::new() }
    }

    /// Applies `rule` to a parameter: on the CPU in place, on other devices by candle's operations.
    pub(super) fn update(&mut self, name: &str, slot: &Slot, gradient: &Tensor, rule: impl Rule<N>) -> Result<()> {
        let weight = slot.var.as_detached_tensor();
        let buffer = self.of(name, &weight)?;
        if weight.device().is_cpu() {
            return step(&weight, &buffer, gradient, rule);
        }
        let (weight, buffer) = rule.composed(&weight, &buffer, gradient)?;
        slot.var.set(&weight)?;
        self.by_name.insert(name.to_owned(), buffer);
        Ok(())
    }

    /// Those of the parameter `name`; zeros at first.
    fn of(&mut self, name: &str, weight: &Tensor) -> Result<Tensor> {
        if let Some(buffer) = self.by_name.get(name) {
            return Ok(buffer.clone());
        }
        let mut shape = weight.dims().to_vec();
        if N > 1 {
            shape.push(N);
        }
        let buffer = Tensor::zeros(shape, weight.dtype(), weight.device())?;
        self.by_name.insert(name.to_owned(), buffer.clone());
        Ok(buffer)
    }

    /// What a checkpoint has to hold.
    pub(super) fn state(&self) -> BTreeMap<String, Tensor> {
        self.by_name.iter().map(|(name, buffer)| (format!("{}.{name}", self.prefix), buffer.clone())).collect()
    }

    /// Takes over what [`Buffers::state`] gave.
    pub(super) fn load(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.by_name.clear();
        for (name, buffer) in state {
            let parameter = name.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix('.'));
            let Some(parameter) = parameter else {
                return Err(Error::Config(format!(
                    "the optimizer's state holds {name}, but this optimizer knows {}.<parameter> alone; resume with the optimizer that saved it",
                    self.prefix
                )));
            };
            self.by_name.insert(parameter.to_owned(), buffer);
        }
        Ok(())
    }
}
