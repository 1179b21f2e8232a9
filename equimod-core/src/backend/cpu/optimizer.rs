//! Optimizer steps in one pass over a parameter, its buffer and its gradient, without temporaries.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, InplaceOp1, InplaceOp2, Layout, Result, Tensor, Var, bail};
use num_traits::Float;
use rayon::prelude::*;

use super::element::constant;
use super::norms::squared_norms;
use super::vectorize::vectorized;
use crate::backend::contract::{AdamWRule, LarsRule, MomentumRule};

/// Number of values of a task: large enough to amortize its overhead, small enough to balance the load.
const CHUNK: usize = 1 << 15;

/// [`OptimizerOps::momentum_step`](crate::backend::contract::OptimizerOps::momentum_step).
pub fn momentum_step(weight: &Var, buffer: &Var, gradient: &Tensor, rule: &MomentumRule) -> Result<()> {
    step::<1, _>(weight, buffer, gradient, *rule)
}

/// [`OptimizerOps::lars_step`](crate::backend::contract::OptimizerOps::lars_step).
pub fn lars_step(weight: &Var, buffer: &Var, gradient: &Tensor, rule: &LarsRule) -> Result<()> {
    let LarsRule { step, trust_coefficient, adaptation, by_product } = *rule;
    let [w, g] = squared_norms(weight, step.decay, gradient)?.map(f64::sqrt);
    let positive = match (by_product, weight.dtype()) {
        (false, _) => w > 0.0 && g > 0.0,
        (true, DType::F64) => w * g > 0.0,
        (true, _) => (w as f32) * (g as f32) > 0.0,
    };
    let trust = if positive { trust_coefficient * w / g } else { 1.0 };
    let inner = step.inner * (1.0 - adaptation) + step.inner * trust * adaptation;
    momentum_step(weight, buffer, gradient, &MomentumRule { inner, ..step })
}

/// [`OptimizerOps::adamw_step`](crate::backend::contract::OptimizerOps::adamw_step).
pub fn adamw_step(weight: &Var, moments: &Var, gradient: &Tensor, rule: &AdamWRule) -> Result<()> {
    step::<2, _>(weight, moments, gradient, *rule)
}

/// Update of one element of a parameter that has N buffered values per element.
trait Rule<const N: usize>: Sync {
    /// Updates an element and its buffered values. Must be `#[inline(always)]`, as [`vectorized`] requires.
    fn step<T: Float>(&self, weight: &mut T, buffers: &mut [T; N], gradient: T);
}

impl Rule<1> for MomentumRule {
    #[inline(always)]
    fn step<T: Float>(&self, weight: &mut T, [buffer]: &mut [T; 1], gradient: T) {
        let momentum = constant::<T>(self.momentum);
        let direction = constant::<T>(self.inner) * (gradient + constant::<T>(self.decay) * *weight);
        *buffer = momentum * *buffer + direction;
        let moved = if self.nesterov { direction + momentum * *buffer } else { *buffer };
        *weight = *weight - constant::<T>(self.outer) * moved;
    }
}

impl Rule<2> for AdamWRule {
    #[inline(always)]
    fn step<T: Float>(&self, weight: &mut T, [mean, square]: &mut [T; 2], gradient: T) {
        *mean = constant::<T>(self.beta1) * *mean + constant::<T>(1.0 - self.beta1) * gradient;
        *square = constant::<T>(self.beta2) * *square + constant::<T>(1.0 - self.beta2) * gradient * gradient;
        let size = square.sqrt() / constant::<T>(self.root) + constant::<T>(self.epsilon);
        *weight = constant::<T>(self.kept) * *weight - constant::<T>(self.rate) * *mean / size;
    }
}

/// Applies `rule` to contiguous tensors. The N buffered values of an element are adjacent.
fn step<const N: usize, R: Rule<N>>(weight: &Tensor, buffer: &Tensor, gradient: &Tensor, rule: R) -> Result<()> {
    weight.inplace_op2(&gradient.detach().contiguous()?, &Outer { rule, buffer })
}

/// candle lends one tensor at a time for writing: the parameter here, the buffer in [`Inner`].
struct Outer<'a, const N: usize, R: Rule<N>> {
    rule: R,
    buffer: &'a Tensor,
}

impl<const N: usize, R: Rule<N>> InplaceOp2 for Outer<'_, N, R> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
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
        "optimizer step"
    }

    fn cpu_fwd(&self, buffer: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (w, b, g) = (range(self.weight_layout)?, range(layout)?, range(self.gradient_layout)?);
        match (&mut **self.weight.borrow_mut(), buffer, self.gradient) {
            (CpuStorage::F32(weight), CpuStorage::F32(buffer), CpuStorage::F32(gradient)) => {
                run(self.rule, &mut weight[w], &mut buffer[b], &gradient[g])
            }
            (CpuStorage::F64(weight), CpuStorage::F64(buffer), CpuStorage::F64(gradient)) => {
                run(self.rule, &mut weight[w], &mut buffer[b], &gradient[g])
            }
            _ => bail!("an optimizer step needs tensors that are all f32 or all f64"),
        }
    }
}

fn run<const N: usize, T: Float + Send + Sync, R: Rule<N>>(
    rule: &R,
    weight: &mut [T],
    buffer: &mut [T],
    gradient: &[T],
) -> Result<()> {
    let (buffers, rest) = buffer.as_chunks_mut::<N>();
    if weight.len() != buffers.len() || !rest.is_empty() || weight.len() != gradient.len() {
        let (w, b, g) = (weight.len(), buffers.len() * N + rest.len(), gradient.len());
        bail!("an optimizer step needs {N} buffered values and a gradient for each of {w} values, got {b} and {g}");
    }
    let chunks = weight.par_chunks_mut(CHUNK).zip(buffers.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
    chunks.for_each(|((weight, buffers), gradient)| {
        vectorized(
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

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!("an optimizer step needs contiguous tensors"),
    }
}
