//! CPU tensors as slices.

use std::ops::Deref;

use candle_core::{Result, Storage, Tensor, bail};

use super::element::Element;

/// Storage of a tensor, locked for reading.
pub struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    range: (usize, usize),
}

impl<'a> Values<'a> {
    /// Locks a contiguous tensor on the CPU.
    ///
    /// # Errors
    ///
    /// If the tensor is not on the CPU, has another element type, or cannot be copied.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match layout.contiguous_offsets() {
            Some(range) => Ok(Self { storage: Box::new(storage), range }),
            None => bail!("a kernel needs contiguous tensors, got strides {:?}", layout.stride()),
        }
    }

    /// Values in row-major order; an error if the tensor has another element type or device.
    ///
    /// # Errors
    ///
    /// If the tensor is not on the CPU, has another element type, or cannot be copied.
    pub fn get<T: Element>(&self) -> Result<&[T]> {
        match &**self.storage {
            Storage::Cpu(storage) => Ok(&T::cpu_storage_as_slice(storage)?[self.range.0..self.range.1]),
            _ => bail!("a CPU kernel got a tensor of another device"),
        }
    }
}

/// The tensor, detached and contiguous; copied only if it is not contiguous.
///
/// # Errors
///
/// If the tensor is not on the CPU, has another element type, or cannot be copied.
pub fn plain(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().contiguous()
}

/// Indices of a max-pool's maxima in row-major order; an error if one is outside of the plane of `in_size`.
///
/// # Errors
///
/// If the tensor is not on the CPU, has another element type, or cannot be copied.
#[allow(clippy::disallowed_methods, reason = "the tensor is in the host's memory")]
pub fn winners_of(winners: &Tensor, in_size: (usize, usize)) -> Result<Vec<u32>> {
    let (height, width) = in_size;
    let winners = winners.flatten_all()?.to_vec1::<u32>()?;
    match winners.iter().any(|&winner| winner as usize >= height * width) {
        true => bail!("a max-pool's winners lie outside {height} × {width}"),
        false => Ok(winners),
    }
}
