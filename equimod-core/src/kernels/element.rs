//! Element types of the CPU kernels.

use std::ops::Deref;

use candle_core::{Result, Storage, Tensor, WithDType, bail};
use num_traits::Float;

/// f32 (fast) or f64 (portable, for proofs).
pub trait Element: WithDType + Float + Send + Sync + 'static {
    /// From 64 bits, rounded.
    fn narrow(value: f64) -> Self;
    /// To 64 bits.
    fn wide(self) -> f64;
    /// The same values, where this is f32: for kernels that only f32 has.
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]>;
}

impl Element for f32 {
    fn narrow(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        self.into()
    }

    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }
}

impl Element for f64 {
    fn narrow(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

/// A tensor's storage, locked for reading.
pub(super) struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    range: (usize, usize),
}

impl<'a> Values<'a> {
    /// Locks a contiguous tensor on the CPU.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match layout.contiguous_offsets() {
            Some(range) => Ok(Self { storage: Box::new(storage), range }),
            None => bail!("a kernel needs contiguous tensors, got strides {:?}", layout.stride()),
        }
    }

    /// The values, row-major.
    pub(super) fn get<T: Element>(&self) -> Result<&[T]> {
        match &**self.storage {
            Storage::Cpu(storage) => Ok(&T::cpu_storage_as_slice(storage)?[self.range.0..self.range.1]),
            _ => bail!("a CPU kernel got a tensor of another device"),
        }
    }
}
