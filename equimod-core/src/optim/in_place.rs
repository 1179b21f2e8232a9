//! One pass over a parameter, its momentum and its gradient, without temporaries.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use crate::Result;
use crate::kernels::vectorised;

/// Values a task handles at once: large enough to be worth a task, small enough to share.
const CHUNK: usize = 1 << 15;

/// What an optimiser does to one value.
pub(super) trait Rule: Sync {
    /// Changes a value of the parameter and of its momentum. Mark it `#[inline(always)]`, as [`vectorised`] asks.
    fn step<T: Float>(&self, weight: &mut T, buffer: &mut T, gradient: T);
}

/// Applies `rule` to contiguous tensors of one shape on the CPU.
pub(super) fn step<R: Rule>(weight: &Tensor, buffer: &Tensor, gradient: &Tensor, rule: R) -> Result<()> {
    Ok(weight.inplace_op2(&gradient.contiguous()?, &Outer { rule, buffer })?)
}

/// A constant in the element type.
#[inline(always)]
pub(super) fn constant<T: Float>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

/// Candle lends one tensor for writing at a time: the parameter here, the momentum in [`Inner`].
struct Outer<'a, R> {
    rule: R,
    buffer: &'a Tensor,
}

impl<R: Rule> InplaceOp2 for Outer<'_, R> {
    fn name(&self) -> &'static str {
        "optimiser step"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let weight = RefCell::new(weight);
        self.buffer.inplace_op1(&Inner { rule: &self.rule, weight, weight_layout, gradient, gradient_layout })
    }
}

struct Inner<'a, R> {
    rule: &'a R,
    weight: RefCell<&'a mut CpuStorage>,
    weight_layout: &'a Layout,
    gradient: &'a CpuStorage,
    gradient_layout: &'a Layout,
}

impl<R: Rule> InplaceOp1 for Inner<'_, R> {
    fn name(&self) -> &'static str {
        "optimiser step"
    }

    fn cpu_fwd(&self, buffer: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (w, b, g) = (range(self.weight_layout)?, range(layout)?, range(self.gradient_layout)?);
        match (&mut **self.weight.borrow_mut(), buffer, self.gradient) {
            (CpuStorage::F32(weight), CpuStorage::F32(buffer), CpuStorage::F32(gradient)) => {
                run(self.rule, &mut weight[w], &mut buffer[b], &gradient[g])
            }
            (CpuStorage::F64(weight), CpuStorage::F64(buffer), CpuStorage::F64(gradient)) => {
                run(self.rule, &mut weight[w], &mut buffer[b], &gradient[g])
            }
            _ => candle_core::bail!("an optimiser step needs tensors that are all f32 or all f64"),
        }
    }
}

fn run<T: Float + Send + Sync, R: Rule>(
    rule: &R,
    weight: &mut [T],
    buffer: &mut [T],
    gradient: &[T],
) -> candle_core::Result<()> {
    if weight.len() != buffer.len() || weight.len() != gradient.len() {
        let (w, b, g) = (weight.len(), buffer.len(), gradient.len());
        candle_core::bail!("an optimiser step needs tensors of one size, got {w}, {b}, {g}");
    }
    let chunks = weight.par_chunks_mut(CHUNK).zip(buffer.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
    chunks.for_each(|((weight, buffer), gradient)| {
        vectorised(
            #[inline(always)]
            || {
                for ((weight, buffer), &gradient) in weight.iter_mut().zip(&mut *buffer).zip(gradient) {
                    rule.step(weight, buffer, gradient);
                }
            },
        );
    });
    Ok(())
}

fn range(layout: &Layout) -> candle_core::Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => candle_core::bail!("an optimiser step needs contiguous tensors"),
    }
}
