//! The step with momentum that LARS and SGD share.

use candle_core::Tensor;
use num_traits::Float;

use super::in_place::{Rule, constant};
use crate::Result;

/// `d = inner·(gradient + decay·w)`; `buffer = momentum·buffer + d`; `w −= outer·buffer`, or with Nesterov's rule
/// `w −= outer·(d + momentum·buffer)`.
#[derive(Clone, Copy)]
pub(super) struct MomentumRule {
    /// Share of the old buffer that is kept.
    pub(super) momentum: f64,
    /// Weight decay.
    pub(super) decay: f64,
    /// Multiplies what enters the buffer.
    pub(super) inner: f64,
    /// Multiplies what leaves it.
    pub(super) outer: f64,
    /// Whether to look ahead.
    pub(super) nesterov: bool,
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

    fn composed(&self, weight: &Tensor, buffer: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
        let direction = times((gradient + (weight * self.decay)?)?, self.inner)?;
        let buffer = ((buffer * self.momentum)? + &direction)?;
        let moved = match self.nesterov {
            true => (direction + (&buffer * self.momentum)?)?,
            false => buffer.clone(),
        };
        Ok(((weight - times(moved, self.outer)?)?, buffer))
    }
}

/// The product, without a pass for a factor of 1.
fn times(tensor: Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1.0 { Ok(tensor) } else { Ok((tensor * factor)?) }
}
