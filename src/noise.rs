//! Steps on noise, for measurements.

use candle_core::{DType, Device, Tensor};
use equimod_core::equivariance::Needs;
use equimod_core::{Parameters, StepBatch};

/// A batch of `images` with views of `side` pixels and vectors that hold `parameters`, as far as they are needed.
pub fn batch(
    needs: &Needs,
    images: usize,
    side: usize,
    parameters: &Parameters,
    device: &Device,
) -> candle_core::Result<StepBatch> {
    let noise = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, device);
    let pictures = |side: usize| noise(&[images, 3, side, side]);
    let vectors = |width: usize| noise(&[2 * images, width]);
    // The mean of every difference: some are of flags, whose values are few.
    let pairs = |width: usize| Tensor::zeros((2 * images, width), DType::F32, device);
    Ok(StepBatch {
        clean: needs.clean_view.then(|| pictures(side)).transpose()?,
        views: [pictures(side)?, pictures(side)?],
        small: needs.small.map(|small| pictures(small.size)).transpose()?,
        params: needs.parameters.then(|| vectors(parameters.view.len())).transpose()?,
        pairs: needs.pairs.then(|| pairs(parameters.pair.len())).transpose()?,
    })
}
