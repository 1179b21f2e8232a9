//! Steps on noise, for measurements.

use candle_core::{Device, Tensor};
use equimod_core::StepBatch;
use equimod_core::equivariance::Needs;

/// A batch of `images` with views of `side` pixels and vectors of `parameters` values, as far as they are needed.
pub fn batch(
    needs: Needs,
    images: usize,
    side: usize,
    parameters: usize,
    device: &Device,
) -> candle_core::Result<StepBatch> {
    let noise = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, device);
    let pictures = || noise(&[images, 3, side, side]);
    Ok(StepBatch {
        clean: needs.clean_view.then(pictures).transpose()?,
        views: [pictures()?, pictures()?],
        params: needs.parameters.then(|| noise(&[2 * images, parameters])).transpose()?,
    })
}
