//! Values that an optimizer keeps for each parameter.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::{Error, Result};

/// Buffers by the name of their parameter: of its shape, with `each` as a last dimension if a value has several.
pub(super) struct Buffers {
    /// First part of their names in a checkpoint.
    prefix: &'static str,
    each: Option<usize>,
    by_name: BTreeMap<String, Var>,
}

impl Buffers {
    /// No buffers yet; in a checkpoint they are called `<prefix>.<parameter>`.
    pub(super) fn new(prefix: &'static str, each: Option<usize>) -> Self {
        Self { prefix, each, by_name: BTreeMap::new() }
    }

    /// The buffer of the parameter `name`; zeros at first.
    pub(super) fn of(&mut self, name: &str, weight: &Tensor) -> Result<Var> {
        if let Some(buffer) = self.by_name.get(name) {
            return Ok(buffer.clone());
        }
        let shape = [weight.dims(), self.each.as_slice()].concat();
        let buffer = Var::zeros(shape, weight.dtype(), weight.device())?;
        self.by_name.insert(name.to_owned(), buffer.clone());
        Ok(buffer)
    }

    /// All buffers under their names in a checkpoint.
    pub(super) fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |(name, buffer): (&String, &Var)| (format!("{}.{name}", self.prefix), buffer.as_detached_tensor());
        self.by_name.iter().map(named).collect()
    }

    /// Replaces all buffers by those that [`Buffers::state`] gave; an error where a name is not theirs.
    pub(super) fn load(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.by_name.clear();
        for (name, buffer) in state {
            let parameter = name.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix('.'));
            let Some(parameter) = parameter else {
                let problem = format!("holds {name}, but this optimizer has {}.<parameter> alone", self.prefix);
                return Err(Error::OptimizerState { entry: name, problem });
            };
            self.by_name.insert(parameter.to_owned(), Var::from_tensor(&buffer)?);
        }
        Ok(())
    }
}
