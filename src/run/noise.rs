//! Random batches for measurements.

use candle_core::{DType, Device, Tensor};
use equimod_core::equivariance::Needs;
use equimod_core::{Parameters, StepBatch};

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
