//! A scope as candle's [`VarBuilder`], in which layers of candle-nn create their variables.

use std::sync::Mutex;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;

use super::{Init, ParamStore, Role, Scope};

/// Names of candle-nn's running statistics, which are buffers.
const BUFFERS: [&str; 2] = ["running_mean", "running_var"];

impl Scope<'_> {
    /// A builder that creates variables in this scope under their dotted names, with the initialization that layers
    /// request.
    ///
    /// For the optimizer, matrices and convolutions are weights and vectors are not; running statistics are buffers. A
    /// repeated name returns the same variable.
    pub fn var_builder(&mut self) -> VarBuilder<'_> {
        let (dtype, device) = (self.store.dtype, self.store.device.clone());
        let variables = Variables { store: Mutex::new(&mut *self.store), prefix: self.prefix.clone() };
        VarBuilder::from_backend(Box::new(variables), dtype, device)
    }
}

struct Variables<'a> {
    store: Mutex<&'a mut ParamStore>,
    prefix: String,
}

impl Variables<'_> {
    /// Calls `f` with the scope of the variables and the last part of `name`.
    fn with<T>(&self, name: &str, f: impl FnOnce(&mut Scope, &str) -> T) -> T {
        // If a layer panicked, the lock is poisoned, but the store is still consistent.
        let mut store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        f(&mut Scope { store: &mut store, prefix: self.prefix.clone() }, name)
    }

    fn existing(&self, name: &str) -> Option<Tensor> {
        self.with(name, |scope, name| scope.store.get(&scope.full(name)).map(|slot| slot.var.as_tensor().clone()))
    }
}

impl SimpleBackend for Variables<'_> {
    fn get(&self, shape: Shape, name: &str, init: candle_nn::Init, _: DType, _: &Device) -> Result<Tensor> {
        if let Some(tensor) = self.existing(name) {
            if *tensor.shape() != shape {
                bail!("{name} is asked for as {shape:?}, and before that as {:?}", tensor.shape());
            }
            return Ok(tensor);
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let role = match (BUFFERS.contains(&last), shape.rank()) {
            (true, _) => Role::Buffer,
            (false, 0 | 1) => Role::Other,
            _ => Role::Weight,
        };
        let init = translate(init, &shape);
        let var = self.with(name, |scope, name| scope.parameter(name, shape, init, role));
        Ok(var.map_err(candle_core::Error::wrap)?.as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.existing(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("{name} is asked for without a shape, and there is no such variable yet"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.existing(name).is_some()
    }
}

/// The same distribution as an [`Init`] of this crate.
fn translate(init: candle_nn::Init, shape: &Shape) -> Init {
    match init {
        candle_nn::Init::Const(value) => Init::Constant(value),
        candle_nn::Init::Randn { mean, stdev } => Init::Normal { mean, std: stdev },
        candle_nn::Init::Uniform { lo, up } => Init::Between(lo, up),
        candle_nn::Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => Init::Normal { mean: 0.0, std },
                NormalOrUniform::Uniform => Init::Uniform(3f64.sqrt() * std),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_candle_get_names_roles_and_seeded_values() {
        let build = |seed| {
            let mut store = ParamStore::new(seed, DType::F64, &Device::Cpu);
            {
                let mut root = store.root();
                let mut scope = root.scope("backbone");
                let vb = scope.var_builder();
                candle_nn::linear(3, 4, vb.pp("head")).unwrap();
                candle_nn::batch_norm(4, 1e-5, vb.pp("norm")).unwrap();
                // The same name is the same variable; another shape is refused.
                let again = vb.get((4, 3), "head.weight").unwrap();
                assert!(again.is_variable() && vb.get((3, 4), "head.weight").is_err() && !vb.contains_tensor("none"));
            }
            store
        };
        let store = build(1);
        let roles: Vec<(&str, Role)> = store.iter().map(|(name, slot)| (name, slot.role)).collect();
        let expected = [
            ("backbone.head.bias", Role::Other),
            ("backbone.head.weight", Role::Weight),
            ("backbone.norm.bias", Role::Other),
            ("backbone.norm.running_mean", Role::Buffer),
            ("backbone.norm.running_var", Role::Buffer),
            ("backbone.norm.weight", Role::Other),
        ];
        assert_eq!(roles, expected);
        let values = |store: &ParamStore| -> Vec<f64> {
            store.get("backbone.head.weight").unwrap().var.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(values(&store), values(&build(1)));
        assert_ne!(values(&store), values(&build(2)));
        // Kaiming uniform for ReLU: ±√3·√2/√3.
        assert!(values(&store).iter().all(|v| v.abs() <= 2f64.sqrt()));
    }
}
