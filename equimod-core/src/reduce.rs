//! Elementwise reductions of the ranks' tensors, in the order of ranks.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use crate::collective::Reduction;

/// Number of values of a task.
const CHUNK: usize = 1 << 15;
/// Number of sums in f64 at a time.
const WIDE: usize = 256;

/// The tensor in host memory, contiguous and detached; copied only if necessary.
///
/// # Errors
///
/// If the transfer fails.
pub fn on_host(tensor: &Tensor) -> Result<Tensor> {
    // candle transfers a view's whole memory.
    tensor.detach().contiguous()?.to_device(&Device::Cpu)
}

/// The reduction of contiguous tensors in host memory, of the same shape and type, for implementations of
/// [`Collective`](crate::Collective).
///
/// f32 is summed in f64 and narrower floats in f32, so that the sum is the same to rounding for any number of ranks.
///
/// # Errors
///
/// If there is no tensor, or they differ in shape or type.
pub fn reduce(of_ranks: &[&Tensor], reduction: Reduction) -> Result<Tensor> {
    let Some((first, others)) = of_ranks.split_first() else { bail!("a reduction over no tensors") };
    let dtype = first.dtype();
    match (reduction, dtype) {
        (Reduction::Sum, DType::F32) => sum_f32(of_ranks),
        (Reduction::Sum, DType::BF16 | DType::F16) => {
            let wide = of_ranks.iter().map(|tensor| tensor.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
            sum_f32(&wide.iter().collect::<Vec<_>>())?.to_dtype(dtype)
        }
        (Reduction::Sum, _) => others.iter().try_fold(first.force_contiguous()?, |sum, tensor| sum + *tensor),
        (Reduction::Max, _) => others.iter().try_fold(first.force_contiguous()?, |most, tensor| most.maximum(*tensor)),
        (Reduction::Min, _) => {
            others.iter().try_fold(first.force_contiguous()?, |least, tensor| least.minimum(*tensor))
        }
    }
}

fn sum_f32(tensors: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = tensors.first() else { bail!("a sum of no tensors") };
    let locked: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let values = locked.iter().map(|(storage, layout)| match (storage.deref(), layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a sum over ranks needs contiguous f32 tensors in host memory"),
    });
    let values = values.collect::<Result<Vec<&[f32]>>>()?;
    let mut sums = vec![0f32; first.elem_count()];
    sums.par_chunks_mut(CHUNK).enumerate().for_each(|(number, sums)| {
        for (part, sums) in sums.chunks_mut(WIDE).enumerate() {
            add(sums, &values, number * CHUNK + part * WIDE);
        }
    });
    Tensor::from_vec(sums, first.shape(), first.device())
}

/// Sums of `values`, from `start` on, added in f64.
fn add(sums: &mut [f32], values: &[&[f32]], start: usize) {
    let mut wide = [0f64; WIDE];
    for values in values {
        for (wide, value) in wide.iter_mut().zip(&values[start..start + sums.len()]) {
            *wide += f64::from(*value);
        }
    }
    for (sum, wide) in sums.iter_mut().zip(wide) {
        *sum = wide as f32;
    }
}
