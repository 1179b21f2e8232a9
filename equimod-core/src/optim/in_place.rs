//! Element-wise updates of a tensor in one pass, without temporaries.

use candle_core::{CpuStorage, InplaceOp3, Layout, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use crate::Result;

/// Values a task handles at once: large enough to be worth a task, small enough to share.
const CHUNK: usize = 1 << 15;

/// `target ← value(target, a, b)`, element by element.
pub(super) trait Update: Sync {
    /// The new value of one element.
    fn value<T: Float>(&self, target: T, a: T, b: T) -> T;
}

/// Applies `update` to contiguous tensors of one shape on the CPU.
pub(super) fn update<U: Update>(target: &Tensor, a: &Tensor, b: &Tensor, update: U) -> Result<()> {
    Ok(target.inplace_op3(&a.contiguous()?, &b.contiguous()?, &InPlace(update))?)
}

/// A constant in the element type.
pub(super) fn constant<T: Float>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

struct InPlace<U>(U);

impl<U: Update> InplaceOp3 for InPlace<U> {
    fn name(&self) -> &'static str {
        "optimiser update"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        a: &CpuStorage,
        layout_a: &Layout,
        b: &CpuStorage,
        layout_b: &Layout,
    ) -> candle_core::Result<()> {
        match (target, a, b) {
            (CpuStorage::F32(t), CpuStorage::F32(a), CpuStorage::F32(b)) => {
                run(&self.0, slice_mut(t, layout)?, slice(a, layout_a)?, slice(b, layout_b)?)
            }
            (CpuStorage::F64(t), CpuStorage::F64(a), CpuStorage::F64(b)) => {
                run(&self.0, slice_mut(t, layout)?, slice(a, layout_a)?, slice(b, layout_b)?)
            }
            _ => candle_core::bail!("an optimiser update needs tensors that are all f32 or all f64"),
        }
    }
}

fn run<T: Float + Send + Sync, U: Update>(update: &U, target: &mut [T], a: &[T], b: &[T]) -> candle_core::Result<()> {
    if target.len() != a.len() || target.len() != b.len() {
        candle_core::bail!(
            "an optimiser update needs tensors of one size, got {}, {}, {}",
            target.len(),
            a.len(),
            b.len()
        );
    }
    target.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)).for_each(|((target, a), b)| {
        for ((target, &a), &b) in target.iter_mut().zip(a).zip(b) {
            *target = update.value(*target, a, b);
        }
    });
    Ok(())
}

fn range(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("an optimiser update needs contiguous tensors".into()))
}

fn slice<'a, T>(values: &'a [T], layout: &Layout) -> candle_core::Result<&'a [T]> {
    let (start, end) = range(layout)?;
    Ok(&values[start..end])
}

fn slice_mut<'a, T>(values: &'a mut [T], layout: &Layout) -> candle_core::Result<&'a mut [T]> {
    let (start, end) = range(layout)?;
    Ok(&mut values[start..end])
}
