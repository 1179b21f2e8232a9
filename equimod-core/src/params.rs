//! Named parameters and buffers with seeded initialization, and their gradients.
//!
//! The initial values of a tensor depend only on the seed and its full name, not on the order of construction or on
//! other parts of the network.

mod gradients;
mod var_builder;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Shape, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use sha2::{Digest, Sha256};

pub use gradients::{GradientSink, Gradients};

use crate::{Error, Result};

/// Initialization of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// A constant value.
    Constant(f64),
    /// Kaiming normal with fan-out: standard deviation √(2 / (out-channels · kernel area)), as torchvision's
    /// convolutions.
    KaimingNormalFanOut,
    /// PyTorch's default for linear and convolution layers: uniform in ±1/√fan-in (Kaiming uniform with a = √5).
    KaimingUniformFanIn,
    /// Uniform in ±bound, e.g. PyTorch's linear bias with bound = 1/√fan-in.
    Uniform(f64),
    /// Uniform from the first value to the second.
    Between(f64, f64),
    /// Normal with this mean and standard deviation.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
}

/// Role of a named tensor in the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a linear or convolution layer: weight decay and trust ratio apply.
    Weight,
    /// Biases and batch norm's scale and shift: neither applies.
    Other,
    /// Not trained: batch norm's running statistics.
    Buffer,
}

/// A tensor of the store and its role.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Values, which are updated in place.
    pub var: Var,
    /// Role in the optimizer.
    pub role: Role,
}

/// All named tensors of a network, in the order of names.
#[derive(Clone, Debug)]
pub struct ParamStore {
    slots: BTreeMap<String, Slot>,
    seed: u64,
    dtype: DType,
    device: Device,
}

impl ParamStore {
    /// Creates an empty store; `seed` determines all initial values.
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        Self { slots: BTreeMap::new(), seed, dtype, device: device.clone() }
    }

    /// Root scope, in which top-level parts are created.
    pub fn root(&mut self) -> Scope<'_> {
        Scope { store: self, prefix: String::new() }
    }

    /// Element type of parameters and running statistics.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the tensors, except for counters, which are on the CPU.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tensor and role of `name`; `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&Slot> {
        self.slots.get(name)
    }

    /// All tensors in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Slot)> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), slot))
    }

    /// Trainable tensors in the order of names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Slot)> {
        self.iter().filter(|(_, slot)| slot.role != Role::Buffer)
    }

    /// Number of trainable values under a prefix (`""` for all).
    pub fn count(&self, prefix: &str) -> usize {
        self.trainable().filter(|(name, _)| name.starts_with(prefix)).map(|(_, s)| s.var.elem_count()).sum()
    }

    /// Tensors under `prefix` by their names without it, as stored in a checkpoint or an export.
    pub fn tensors(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let strip = |name: &str| name.strip_prefix(prefix).map(str::to_owned);
        self.iter().filter_map(|(n, s)| Some((strip(n)?, s.var.as_tensor().clone()))).collect()
    }

    /// Deep copy of all tensors, which shares no memory with the store.
    ///
    /// # Errors
    ///
    /// If a copy fails.
    pub fn deep_copy(&self) -> Result<BTreeMap<String, Tensor>> {
        self.iter().map(|(name, slot)| Ok((name.to_owned(), slot.var.copy()?))).collect()
    }

    fn generator(&self, name: &str) -> ChaCha8Rng {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(name.as_bytes());
        ChaCha8Rng::from_seed(hash.finalize().into())
    }

    fn insert(&mut self, name: String, role: Role, tensor: Tensor) -> Result<Var> {
        if self.slots.contains_key(&name) {
            return Err(Error::Duplicate { kind: "parameter", name });
        }
        let var = Var::from_tensor(&tensor)?;
        self.slots.insert(name, Slot { var: var.clone(), role });
        Ok(var)
    }
}

/// A name prefix in a [`ParamStore`], under which a layer creates its tensors.
pub struct Scope<'a> {
    store: &'a mut ParamStore,
    prefix: String,
}

impl Scope<'_> {
    /// The scope `name` inside this one.
    pub fn scope(&mut self, name: impl AsRef<str>) -> Scope<'_> {
        let prefix = self.full(name.as_ref());
        Scope { store: self.store, prefix }
    }

    /// The name of this scope; empty at the root.
    pub fn name(&self) -> &str {
        &self.prefix
    }

    /// Full name of `name` in this scope: parts joined by dots, as in PyTorch's state dicts.
    pub fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Creates a trainable tensor of the given shape.
    ///
    /// # Errors
    ///
    /// If a tensor of that name already exists, or the bounds of `init` are invalid.
    pub fn parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init, role: Role) -> Result<Var> {
        let name = self.full(name);
        let values = initial_values(&shape.into(), init, &mut self.store.generator(&name))?;
        let tensor = values.to_device(&self.store.device)?.to_dtype(self.store.dtype)?;
        self.store.insert(name, role, tensor)
    }

    /// Trainable tensors created in this scope so far, with their full names.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let inside = |name: &str| self.prefix.is_empty() || name.starts_with(&format!("{}.", self.prefix));
        let trained = self.store.trainable().filter(|(name, _)| inside(name));
        trained.map(|(name, slot)| (name.to_owned(), slot.var.clone())).collect()
    }

    /// Creates a buffer of the given shape, filled with `value`.
    ///
    /// # Errors
    ///
    /// If a tensor of that name already exists.
    pub fn buffer(&mut self, name: &str, shape: impl Into<Shape>, value: f64) -> Result<Var> {
        let tensor = Tensor::full(value, shape, &self.store.device)?.to_dtype(self.store.dtype)?;
        self.store.insert(self.full(name), Role::Buffer, tensor)
    }

    /// Creates a counter (a 64-bit integer scalar `[]`), e.g. batch norm's `num_batches_tracked`. It is in host memory,
    /// where counting needs no launch on a device.
    ///
    /// # Errors
    ///
    /// If a tensor of that name already exists.
    pub fn counter(&mut self, name: &str) -> Result<Var> {
        let tensor = Tensor::zeros((), DType::I64, &Device::Cpu)?;
        self.store.insert(self.full(name), Role::Buffer, tensor)
    }
}

/// Draws in f64 on the CPU for every device, so that all devices start from the same weights.
fn initial_values(shape: &Shape, init: Init, generator: &mut ChaCha8Rng) -> Result<Tensor> {
    let count = shape.elem_count();
    let dims = shape.dims();
    let receptive: usize = dims.iter().skip(2).product();
    let fan_in = (dims.get(1).copied().unwrap_or(1) * receptive).max(1) as f64;
    let fan_out = (dims.first().copied().unwrap_or(1) * receptive).max(1) as f64;
    let values: Vec<f64> = match init {
        Init::Constant(value) => vec![value; count],
        Init::KaimingNormalFanOut => normal(count, 0.0, (2.0 / fan_out).sqrt(), generator),
        Init::KaimingUniformFanIn => uniform(count, symmetric(fan_in.sqrt().recip()), generator)?,
        Init::Uniform(bound) => uniform(count, symmetric(bound), generator)?,
        Init::Between(low, high) => uniform(count, (low, high), generator)?,
        Init::Normal { mean, std } => normal(count, mean, std, generator),
    };
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn normal(count: usize, mean: f64, std: f64, generator: &mut ChaCha8Rng) -> Vec<f64> {
    (0..count)
        .map(|_| {
            let v: f64 = StandardNormal.sample(generator);
            v * std + mean
        })
        .collect()
}

fn symmetric(bound: f64) -> (f64, f64) {
    (-bound, bound)
}

fn uniform(count: usize, (low, high): (f64, f64), generator: &mut ChaCha8Rng) -> Result<Vec<f64>> {
    let range = Uniform::new_inclusive(low, high).map_err(|e| {
        Error::setting("the range of uniform initial values", format!("{low} to {high}"), e.to_string())
    })?;
    Ok((0..count).map(|_| range.sample(generator)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(store: &ParamStore, name: &str) -> Vec<f64> {
        store.get(name).unwrap().var.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn initial_values_do_not_depend_on_construction_order() {
        let build = |names: &[&str]| {
            let mut store = ParamStore::new(7, DType::F64, &Device::Cpu);
            for name in names {
                store.root().parameter(name, (8, 4, 3, 3), Init::KaimingNormalFanOut, Role::Weight).unwrap();
            }
            store
        };
        let (one, other) = (build(&["a", "b"]), build(&["b", "c", "a"]));
        assert_eq!(values(&one, "a"), values(&other, "a"));
        assert_eq!(values(&one, "b"), values(&other, "b"));
        assert_ne!(values(&one, "a"), values(&one, "b"));
    }

    #[test]
    fn kaiming_schemes_have_their_moments() {
        let mut store = ParamStore::new(1, DType::F64, &Device::Cpu);
        store.root().parameter("n", (64, 32, 3, 3), Init::KaimingNormalFanOut, Role::Weight).unwrap();
        store.root().parameter("u", (256, 128), Init::KaimingUniformFanIn, Role::Weight).unwrap();
        let variance = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64;
        // The fan-out is 64·9; the uniform distribution in ±1/√128 has variance 1/(3·128). The relative standard error
        // of the sample variance is about 1 %.
        let (n, u) = (variance(&values(&store, "n")), variance(&values(&store, "u")));
        assert!((n * 576.0 / 2.0 - 1.0).abs() < 0.05, "{n}");
        assert!((u * 384.0 - 1.0).abs() < 0.05, "{u}");
        assert!(values(&store, "u").iter().all(|v| v.abs() <= 128f64.sqrt().recip()));
    }

    #[test]
    fn a_name_is_declared_once() {
        let mut store = ParamStore::new(1, DType::F32, &Device::Cpu);
        store.root().counter("n").unwrap();
        assert!(store.root().counter("n").unwrap_err().to_string().contains("two parameters called n"));
    }
}
