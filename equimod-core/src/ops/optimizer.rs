//! Optimizer steps, sums of squares and moving averages of parameters.

use candle_core::{Result, Tensor, Var, bail};

use crate::backend;
use crate::backend::contract::{Gate, ParameterStep};

/// Checks that a step's buffer and gradient fit its weight, and that its weight has the type and device of `first`.
fn fits(step: &ParameterStep, first: &Tensor) -> Result<()> {
    let ParameterStep { weight, buffer, gradient, rule } = step;
    if buffer.dims() != [weight.dims(), rule.buffered()].concat() || gradient.dims() != weight.dims() {
        bail!(
            "an optimizer step for a weight of shape {:?} got a buffer of shape {:?} and a gradient of shape {:?}",
            weight.dims(),
            buffer.dims(),
            gradient.dims()
        );
    }
    together(weight, first)
}

fn together(tensor: &Tensor, first: &Tensor) -> Result<()> {
    if tensor.dtype() != first.dtype() || !tensor.device().same_device(first.device()) {
        bail!(
            "the tensors of one call have the types {:?} and {:?} on {:?} and {:?}; they have to be of one type on one \
             device",
            first.dtype(),
            tensor.dtype(),
            first.device().location(),
            tensor.device().location()
        );
    }
    Ok(())
}

/// Updates parameters and their buffers in place, unless `gate` is closed. Each gradient is freed after its use.
///
/// # Errors
///
/// If shapes differ, the weights have different types or devices, or a tensor operation fails.
pub fn parameter_steps(steps: Vec<ParameterStep>, gate: &Gate) -> Result<()> {
    let Some(first) = steps.first() else { return Ok(()) };
    let first = first.weight.as_detached_tensor();
    steps.iter().try_for_each(|step| fits(step, &first))?;
    backend::of(&first).parameter_steps(steps, gate)
}

/// Squared norm Σ v² of a tensor of any shape, a scalar on its device (f64 on the CPU and CUDA devices, f32 elsewhere).
///
/// # Errors
///
/// If a tensor operation fails.
pub fn squared_norm(tensor: &Tensor) -> Result<Tensor> {
    backend::of(tensor).squared_norm(tensor)
}

/// [Squared norms](squared_norm) of n tensors of one type and device, `[n]`.
///
/// # Errors
///
/// If there is no tensor, they have different types or devices, or a tensor operation fails.
pub fn squared_norms(tensors: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = tensors.first() else { bail!("there is no tensor whose norm to compute") };
    tensors.iter().try_for_each(|tensor| together(tensor, first))?;
    backend::of(first).squared_norms(tensors)
}

/// Products of tensors of one type and device with the scalar `factor` `[]` of any type, as new tensors. Each tensor is
/// freed after its use.
///
/// # Errors
///
/// If the tensors have different types or devices, or a tensor operation fails.
pub fn scaled(tensors: Vec<Tensor>, factor: &Tensor) -> Result<Vec<Tensor>> {
    let Some(first) = tensors.first().cloned() else { return Ok(tensors) };
    tensors.iter().try_for_each(|tensor| together(tensor, &first))?;
    let factor = factor.detach().reshape(())?.to_dtype(first.dtype())?;
    backend::of(&first).scaled(tensors, &factor)
}

/// `target = kept·target + (1 − kept)·source` in place for pairs of target and source, unless `gate` is closed.
///
/// # Errors
///
/// If shapes differ, the targets have different types or devices, or a tensor operation fails.
pub fn move_all_towards(pairs: &[(Var, Tensor)], kept: f64, gate: &Gate) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    for (target, source) in pairs {
        if target.dims() != source.dims() {
            bail!("a moving average of shape {:?} got values of shape {:?}", target.dims(), source.dims());
        }
        together(target, first)?;
        together(source, first)?;
    }
    backend::of(first).move_all_towards(pairs, kept, gate)
}
