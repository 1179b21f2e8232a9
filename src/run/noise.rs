//! Random batches for measurements.

use candle_core::{DType, Device, Tensor};
use equimod_core::equivariance::Needs;
use equimod_core::{Method, Parameters, StepBatch};

/// A [`batch`] where and in the type in which training gives it to the method, whose execution has `parts`.
///
/// # Errors
///
/// Those of `batch`.
pub fn batch_for(
    method: &Method,
    parts: usize,
    [images, side]: [usize; 2],
    parameters: &Parameters,
) -> candle_core::Result<StepBatch> {
    let device = method.params().device();
    let images_on = if parts > 1 { &Device::Cpu } else { device };
    let noise = batch(&method.needs(), images, side, parameters, images_on)?;
    let cast = |images: &Tensor| images.to_dtype(method.compute_dtype());
    let vectors = |vectors: Option<Tensor>| vectors.map(|vectors| vectors.to_device(device)).transpose();
    Ok(StepBatch {
        clean: noise.clean.as_ref().map(cast).transpose()?,
        views: [cast(&noise.views[0])?, cast(&noise.views[1])?],
        small: noise.small.as_ref().map(cast).transpose()?,
        params: vectors(noise.params)?,
        pairs: vectors(noise.pairs)?,
    })
}

/// A batch of `images` images and their views, each `[images, 3, side, side]`, with vectors of the widths in
/// `parameters`, restricted to what the method needs.
///
/// # Errors
///
/// If a tensor cannot be allocated.
pub fn batch(
    needs: &Needs,
    images: usize,
    side: usize,
    parameters: &Parameters,
    device: &Device,
) -> candle_core::Result<StepBatch> {
    let noise = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, device);
    let batch_of = |side: usize| noise(&[images, 3, side, side]);
    let vectors = |width: usize| noise(&[2 * images, width]);
    // Zero is the mean of every difference; some values are differences of flags and cannot take arbitrary values.
    let pairs = |width: usize| Tensor::zeros((2 * images, width), DType::F32, device);
    Ok(StepBatch {
        clean: needs.clean_view.then(|| batch_of(side)).transpose()?,
        views: [batch_of(side)?, batch_of(side)?],
        small: needs.small.map(|small| batch_of(small.size)).transpose()?,
        params: needs.parameters.then(|| vectors(parameters.view.len())).transpose()?,
        pairs: needs.pairs.then(|| pairs(parameters.pair.len())).transpose()?,
    })
}
