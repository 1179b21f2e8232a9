//! One pass over a parameter, what is remembered of it, and its gradient, without temporaries.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use crate::Result;
use crate::kernels::vectorised;

/// Values a task handles at once: large enough to be worth a task, small enough to share.
const CHUNK: usize = 1 << 15;

/// What an optimiser does to a parameter of which it remembers N values for each value.
pub(super) trait Rule<const N: usize>: Sync {
    /// Changes a value of the parameter and those remembered of it. Mark it `#[inline(always)]`, as [`vectorised`] asks.
    fn step<T: Float>(&self, weight: &mut T, buffers: &mut [T; N], gradient: T);

    /// The same of whole tensors by candle's operations: the new parameter and the new buffer.
    fn composed(&self, weight: &Tensor, buffer: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)>;
}

/// Applies `rule` to contiguous tensors on the CPU. The buffer's N values of a value lie side by side.
pub(super) fn step<const N: usize, R: Rule<N>>(
    weight: &Tensor,
    buffer: &Tensor,
    gradient: &Tensor,
    rule: R,
) -> Result<()> {
    Ok(weight.inplace_op2(&gradient.contiguous()?, &Outer { rule, buffer })?)
}

/// A constant in the element type.
#[inline(always)]
pub(super) fn constant<T: Float>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

/// Candle lends one tensor for writing at a time: the parameter here, the buffer in [`Inner`].
struct Outer<'a, const N: usize, R: Rule<N>> {
    rule: R,
    buffer: &'a Tensor,
}

impl<const N: usize, R: Rule<N>> InplaceOp2 for Outer<'_, N, R> {
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

struct Inner<'a, const N: usize, R: Rule<N>> {
    rule: &'a R,
    weight: RefCell<&'a mut CpuStorage>,
    weight_layout: &'a Layout,
    gradient: &'a CpuStorage,
    gradient_layout: &'a Layout,
}

impl<const N: usize, R: Rule<N>> InplaceOp1 for Inner<'_, N, R> {
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

fn run<const N: usize, T: Float + Send + Sync, R: Rule<N>>(
    rule: &R,
    weight: &mut [T],
    buffer: &mut [T],
    gradient: &[T],
) -> candle_core::Result<()> {
    let (buffers, rest) = buffer.as_chunks_mut::<N>();
    if weight.len() != buffers.len() || !rest.is_empty() || weight.len() != gradient.len() {
        let (w, b, g) = (weight.len(), buffers.len() * N + rest.len(), gradient.len());
        candle_core::bail!(
            "an optimiser step needs {N} remembered values for each of {w}, and a gradient, got {b}, {g}"
        );
    }
    let chunks = weight.par_chunks_mut(CHUNK).zip(buffers.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
    chunks.for_each(|((weight, buffers), gradient)| {
        vectorised(
            #[inline(always)]
            || {
                for ((weight, buffers), &gradient) in weight.iter_mut().zip(&mut *buffers).zip(gradient) {
                    rule.step(weight, buffers, gradient);
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
