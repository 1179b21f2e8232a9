//! Optimizer steps, sums of squares and moving averages of parameters.

use candle_core::{Result, Tensor, Var, bail};

use super::Gate;
use crate::backend;
use crate::backend::contract::{AdamWRule, LarsRule, MomentumRule};

/// Checks that a gradient, and a buffer with `each` values per element, fit a weight.
fn fits(weight: &Tensor, buffer: &Tensor, gradient: &Tensor, each: &[usize]) -> Result<()> {
    if buffer.dims() != [weight.dims(), each].concat() || gradient.dims() != weight.dims() {
        bail!(
            "an optimizer step for a weight of shape {:?} got a buffer of shape {:?} and a gradient of shape {:?}",
            weight.dims(),
            buffer.dims(),
            gradient.dims()
        );
    }
    Ok(())
}

/// Updates a weight and its momentum, both of the gradient's shape, in place, unless `gate` is closed.
///
/// # Errors
///
/// If shapes differ, or a tensor operation fails.
pub fn momentum_step(weight: &Var, buffer: &Var, gradient: &Tensor, rule: &MomentumRule, gate: &Gate) -> Result<()> {
    fits(weight, buffer, gradient, &[])?;
    gate.apply(&[weight, buffer], || backend::of(weight).momentum_step(weight, buffer, gradient, rule))
}

/// Updates a weight and its momentum, both of the gradient's shape, in place with the trust ratio of LARS, unless
/// `gate` is closed.
///
/// # Errors
///
/// If shapes differ, or a tensor operation fails.
pub fn lars_step(weight: &Var, buffer: &Var, gradient: &Tensor, rule: &LarsRule, gate: &Gate) -> Result<()> {
    fits(weight, buffer, gradient, &[])?;
    gate.apply(&[weight, buffer], || backend::of(weight).lars_step(weight, buffer, gradient, rule))
}

/// Updates a weight and its moments, of the weight's shape with a last dimension of 2, in place, unless `gate` is
/// closed.
///
/// # Errors
///
/// If shapes differ, or a tensor operation fails.
pub fn adamw_step(weight: &Var, moments: &Var, gradient: &Tensor, rule: &AdamWRule, gate: &Gate) -> Result<()> {
    fits(weight, moments, gradient, &[2])?;
    gate.apply(&[weight, moments], || backend::of(weight).adamw_step(weight, moments, gradient, rule))
}

/// Squared norm Σ v² of a tensor of any shape, a scalar on its device (f64 on the CPU, f32 elsewhere).
///
/// # Errors
///
/// If a tensor operation fails.
pub fn squared_norm(tensor: &Tensor) -> Result<Tensor> {
    backend::of(tensor).squared_norm(tensor)
}

/// `target = kept·target + (1 − kept)·source` in place, for tensors of the same shape.
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
pub fn move_towards(target: &Var, source: &Tensor, kept: f64) -> Result<()> {
    if target.dims() != source.dims() {
        bail!("a moving average of shape {:?} got values of shape {:?}", target.dims(), source.dims());
    }
    backend::of(target).move_towards(target, source, kept)
}
