//! Batch norm over `[N, C, …]`, fused with a residual addition and a ReLU.

use candle_core::{DType, Result, Tensor, bail};

use crate::backend;
use crate::backend::contract::{ChannelStatistics, RunningStatistics, ScaleShiftRelu};

fn channels(xs: &Tensor) -> Result<usize> {
    match xs.dims() {
        [_, channels, ..] => Ok(*channels),
        dims => bail!("batch norm needs a batch and channels, got {dims:?}"),
    }
}

fn per_channel(channels: usize, tensors: &[&Tensor]) -> Result<()> {
    match tensors.iter().find(|t| t.dims() != [channels]) {
        Some(t) => bail!("batch norm over {channels} channels got a tensor of shape {:?}", t.dims()),
        None => Ok(()),
    }
}

/// Checks that all `others` have the shape of `xs`.
///
/// # Errors
///
/// If one has another shape.
pub fn same_shape(xs: &Tensor, others: &[Option<&Tensor>]) -> Result<()> {
    match others.iter().flatten().find(|t| t.dims() != xs.dims()) {
        Some(t) => bail!("tensors of shapes {:?} and {:?} should have one shape", xs.dims(), t.dims()),
        None => Ok(()),
    }
}

/// Checks that an activation has `channels` channels.
///
/// # Errors
///
/// If it has another number of channels.
pub fn fits_activation(activation: Option<&ScaleShiftRelu>, channels: usize) -> Result<()> {
    activation.map_or(Ok(()), |activation| per_channel(channels, &[&activation.scale, &activation.shift]))
}

/// Checks the arguments that both halves of the backward pass share.
fn fits_backward(
    dys: &Tensor,
    activation: Option<&ScaleShiftRelu>,
    xs: &Tensor,
    coefficients: &[&Tensor],
) -> Result<()> {
    let channels = channels(xs)?;
    per_channel(channels, coefficients)?;
    same_shape(xs, &[Some(dys)])?;
    fits_activation(activation, channels)
}

/// Σx and Σx² of each channel of xs `[N, C, …]`, `[2, C]`, added in a fixed order; in f64 on the CPU.
///
/// # Errors
///
/// If xs has fewer than two dimensions, or a tensor operation fails.
pub fn batch_norm_sums(xs: &Tensor) -> Result<Tensor> {
    channels(xs)?;
    backend::of(xs).batch_norm_sums(xs)
}

/// `relu?(xs·scale + shift + residual?)` with scale and shift `[C]`. The residual and the result have the shape of xs
/// `[N, C, …]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_apply(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    per_channel(channels(xs)?, &[scale, shift])?;
    same_shape(xs, &[residual])?;
    backend::of(xs).batch_norm_apply(xs, scale, shift, residual, relu)
}

/// [`batch_norm_apply`], whose result may overwrite the memory of `xs`. No other tensor may share that memory, in
/// particular no other argument.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_apply_in_place(
    xs: Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    per_channel(channels(&xs)?, &[scale, shift])?;
    same_shape(&xs, &[residual])?;
    backend::of(&xs).batch_norm_apply_in_place(xs, scale, shift, residual, relu)
}

/// `relu(xs·scale + shift)` of xs `[N, C, …]`; same shape.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn scale_shift_relu(xs: &Tensor, activation: &ScaleShiftRelu) -> Result<Tensor> {
    fits_activation(Some(activation), channels(xs)?)?;
    backend::of(xs).scale_shift_relu(xs, activation)
}

/// Σdy' and Σdy'·x̂ of each channel, `[2, C]`; in f64 on the CPU. dy' is dys `[N, C, …]`, set to 0 where the
/// activation, if there is one, is 0; x̂ is `(xs − mean)·inverse_std` with mean and inverse_std `[C]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_backward_sums(
    dys: &Tensor,
    activation: Option<&ScaleShiftRelu>,
    xs: &Tensor,
    mean: &Tensor,
    inverse_std: &Tensor,
) -> Result<Tensor> {
    fits_backward(dys, activation, xs, &[mean, inverse_std])?;
    backend::of(xs).activated_backward_sums(dys, activation, xs, mean, inverse_std)
}

/// Gradient of a batch norm's input xs `[N, C, …]`, same shape: `scale·dy' + slope·xs + offset` with the `coefficients`
/// scale, slope and offset, `[C]` each, and dy' as in [`batch_norm_backward_sums`].
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_backward(
    dys: &Tensor,
    activation: Option<&ScaleShiftRelu>,
    xs: &Tensor,
    coefficients: [&Tensor; 3],
) -> Result<Tensor> {
    fits_backward(dys, activation, xs, &coefficients)?;
    backend::of(xs).activated_backward(dys, activation, xs, coefficients)
}

/// [`batch_norm_backward`], whose result may overwrite the memory of `xs`. No other tensor may share that memory, in
/// particular no other argument.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_backward_in_place(
    dys: &Tensor,
    activation: Option<&ScaleShiftRelu>,
    xs: Tensor,
    coefficients: [&Tensor; 3],
) -> Result<Tensor> {
    fits_backward(dys, activation, &xs, &coefficients)?;
    backend::of(&xs).activated_backward_in_place(dys, activation, xs, coefficients)
}

/// Gradient of the input of a ReLU with output `ys`: `(dys + more?)·[ys > 0]`, all of the same shape. `more` is the
/// gradient of `ys` from another path. The result may overwrite the memory of `dys`, which no other tensor may share.
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
pub fn relu_backward(dys: Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
    same_shape(&dys, &[more, Some(ys)])?;
    backend::of(&dys).relu_backward_in_place(dys, more, ys)
}

/// Statistics of the batch `xs` `[N, C, …]` from the sums `[2, C]` of [`batch_norm_sums`] over `count` values per
/// channel, and the update of the running statistics, if they are given, with the unbiased variance.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_statistics(
    xs: &Tensor,
    sums: &Tensor,
    count: f64,
    epsilon: f64,
    running: Option<RunningStatistics>,
) -> Result<ChannelStatistics> {
    let channels = channels(xs)?;
    if sums.dims() != [2, channels] {
        bail!("the sums of a batch norm over {channels} channels have the shape {:?}", sums.dims());
    }
    if let Some(running) = running {
        per_channel(channels, &[running.mean, running.variance])?;
    }
    backend::of(xs).batch_norm_statistics(sums, count, epsilon, running)
}

/// Scale `inverse_std·weight` and shift `bias − mean·scale` of each channel, of type `dtype`, such that
/// `xs·scale + shift` is the normalized input; without weight and bias, 1 and 0.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_affine(
    statistics: &ChannelStatistics,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    dtype: DType,
) -> Result<ScaleShiftRelu> {
    let parts: Vec<&Tensor> = weight.into_iter().chain(bias).chain([&statistics.inverse_std]).collect();
    per_channel(statistics.mean.elem_count(), &parts)?;
    backend::on(statistics.mean.device(), dtype).batch_norm_affine(statistics, weight, bias, dtype)
}

/// Coefficients scale, slope and offset of [`batch_norm_backward`], `[C]` each and of type `dtype`, from the sums
/// `[2, C]` of [`batch_norm_backward_sums`] over the given number of values per channel; without sums, for statistics
/// that do not depend on the batch.
///
/// `dx = weight·σ⁻¹·(dy − mean(dy) − x̂·mean(dy·x̂)) = scale·dy + slope·x + offset`
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn batch_norm_coefficients(
    statistics: &ChannelStatistics,
    weight: Option<&Tensor>,
    sums: Option<(&Tensor, f64)>,
    dtype: DType,
) -> Result<[Tensor; 3]> {
    let channels = statistics.mean.elem_count();
    per_channel(channels, &weight.into_iter().chain([&statistics.inverse_std]).collect::<Vec<_>>())?;
    if let Some((sums, _)) = sums
        && sums.dims() != [2, channels]
    {
        bail!("the sums of a batch norm over {channels} channels have the shape {:?}", sums.dims());
    }
    backend::on(statistics.mean.device(), dtype).batch_norm_coefficients(statistics, weight, sums, dtype)
}
