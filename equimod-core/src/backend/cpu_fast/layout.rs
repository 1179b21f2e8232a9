//! Conversion of tensors `[N, C, …]` to rows of channels, `[N, …, C]`, and back.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor, WithDType, bail};

use super::kernels::transposed;
use crate::backend::cpu::Values;
use crate::backend::layout::{channels_last, channels_second};

/// A tensor `[N, C, …]` as contiguous rows of channels, `[N, …, C]`. It is a view if its memory already has that layout
/// (as results of these kernels, or `[N, C]`), else a copy.
pub fn rows(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.detach();
    let view = channels_last(&tensor)?;
    if view.is_contiguous() {
        return Ok(view);
    }
    if !tensor.is_contiguous() || tensor.dtype() != candle_core::DType::F32 {
        return view.contiguous();
    }
    let (batch, channels) = (tensor.dim(0)?, tensor.dim(1)?);
    let area = tensor.elem_count() / (batch * channels).max(1);
    let values = transposed(Values::of(&tensor)?.get()?, batch, channels, area);
    Tensor::from_vec(values, view.shape(), &Device::Cpu)
}

/// A tensor `[N, C, …]` of shape `dims` from values in rows of channels.
pub fn from_rows<T: WithDType>(values: Vec<T>, dims: &[usize]) -> Result<Tensor> {
    let shape: Vec<usize> = [dims[0]].into_iter().chain(dims[2..].iter().copied()).chain([dims[1]]).collect();
    channels_second(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Applies `change` to a tensor's rows of channels, in its own memory if it has that layout, else in a copy.
pub fn changed_in_place(tensor: &Tensor, change: impl Fn(&mut [f32])) -> Result<Tensor> {
    let target = rows(tensor)?;
    target.inplace_op1(&Change(change))?;
    channels_second(&target)
}

/// In-place change of rows.
struct Change<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => {
                (self.0)(&mut values[start..end]);
                Ok(())
            }
            _ => bail!("rows of channels are contiguous f32"),
        }
    }
}
