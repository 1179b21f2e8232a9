//! Tensors as slices: which kernels take them, and how their values lie in memory.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};

use super::element::Element;
use super::fast::layout::transposed;

/// Which kernels take a tensor.
pub enum Kernels {
    /// f32 on the CPU: over rows of channels.
    Fast,
    /// f64 on the CPU: over planes.
    Portable,
    /// Everything else: candle's operations.
    Composed,
}

impl Kernels {
    /// Those for a tensor.
    pub fn of(tensor: &Tensor) -> Self {
        match (tensor.device(), tensor.dtype()) {
            (Device::Cpu, DType::F32) => Self::Fast,
            (Device::Cpu, DType::F64) => Self::Portable,
            _ => Self::Composed,
        }
    }
}

/// A tensor's storage, locked for reading.
pub struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    range: (usize, usize),
}

impl<'a> Values<'a> {
    /// Locks a contiguous tensor on the CPU.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match layout.contiguous_offsets() {
            Some(range) => Ok(Self { storage: Box::new(storage), range }),
            None => bail!("a kernel needs contiguous tensors, got strides {:?}", layout.stride()),
        }
    }

    /// The values, row-major.
    pub fn get<T: Element>(&self) -> Result<&[T]> {
        match &**self.storage {
            Storage::Cpu(storage) => Ok(&T::cpu_storage_as_slice(storage)?[self.range.0..self.range.1]),
            _ => bail!("a CPU kernel got a tensor of another device"),
        }
    }
}

/// A tensor `[N, C, …]` as rows of channels: contiguous, of shape `[N, …, C]`. A view where its memory is so already (it
/// came from these kernels, or is `[N, C]`), else a copy.
pub fn rows(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.detach();
    let rank = tensor.rank();
    if rank < 2 {
        bail!("a kernel needs a batch and channels, got {:?}", tensor.dims());
    }
    let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let view = tensor.permute(order)?;
    if view.is_contiguous() {
        return Ok(view);
    }
    if !tensor.is_contiguous() || tensor.dtype() != DType::F32 || !tensor.device().is_cpu() {
        return view.contiguous();
    }
    let (batch, channels) = (tensor.dim(0)?, tensor.dim(1)?);
    let area = tensor.elem_count() / (batch * channels).max(1);
    let values = transposed(Values::of(&tensor)?.get()?, batch, channels, area);
    Tensor::from_vec(values, view.shape(), &Device::Cpu)
}

/// The tensor `[N, C, …]` of `dims` whose memory is rows of channels.
pub fn from_rows<T: candle_core::WithDType>(values: Vec<T>, dims: &[usize]) -> Result<Tensor> {
    let shape: Vec<usize> = [dims[0]].into_iter().chain(dims[2..].iter().copied()).chain([dims[1]]).collect();
    channels_second(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// `[N, …, C]` seen as `[N, C, …]`.
pub fn channels_second(rows: &Tensor) -> Result<Tensor> {
    let rank = rows.rank();
    let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    rows.permute(order)
}

/// A tensor without history, contiguous: planes.
pub fn planes(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().contiguous()
}

/// A tensor's rows of channels, changed where they lie or, if they lie otherwise, in a copy.
pub fn changed(tensor: &Tensor, change: impl Fn(&mut [f32])) -> Result<Tensor> {
    let target = rows(tensor)?;
    target.inplace_op1(&Change(change))?;
    channels_second(&target)
}

/// Changes rows in place.
struct Change<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, values: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.0(slice_mut(values, layout)?);
        Ok(())
    }
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("rows are contiguous f32"),
    }
}
