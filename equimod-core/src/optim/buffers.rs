//! Per-parameter state of optimizers.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::{Error, Result};

/// Buffers by parameter name. A buffer has the shape of its parameter, with a last dimension `each` if there is one.
pub(super) struct Buffers {
    /// Prefix of their names in a checkpoint.
    prefix: &'static str,
    each: Option<usize>,
    by_name: BTreeMap<String, Var>,
}

impl Buffers {
    /// Creates an empty set of buffers, named `<prefix>.<parameter>` in a checkpoint.
    pub(super) fn new(prefix: &'static str, each: Option<usize>) -> Self {
        Self { prefix, each, by_name: BTreeMap::new() }
    }

    /// Buffer of the parameter `name`, created as zeros on first use.
    pub(super) fn of(&mut self, name: &str, weight: &Tensor) -> Result<Var> {
        if let Some(buffer) = self.by_name.get(name) {
            return Ok(buffer.clone());
        }
        let shape = [weight.dims(), self.each.as_slice()].concat();
        let buffer = Var::zeros(shape, weight.dtype(), weight.device())?;
        self.by_name.insert(name.to_owned(), buffer.clone());
        Ok(buffer)
    }

    /// All buffers by their names in a checkpoint.
    pub(super) fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |(name, buffer): (&String, &Var)| (format!("{}.{name}", self.prefix), buffer.as_detached_tensor());
        self.by_name.iter().map(named).collect()
    }

    /// Replaces all buffers by a state from [`Buffers::state`]; an error if a name lacks the prefix.
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
