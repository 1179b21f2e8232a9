//! Conversion of pixels to normalized planes.

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::vectorize::vectorized;
use crate::backend::contract::PixelShape;

/// [`ImageOps::normalized`](crate::backend::contract::ImageOps::normalized), computed in f32 and converted to `dtype`.
pub fn normalized(pixels: &[u8], shape: PixelShape, channels: [[f32; 3]; 2], dtype: DType) -> Result<Tensor> {
    let PixelShape { count, height, width } = shape;
    let values = planes_of(pixels, height * width, channels);
    Tensor::from_vec(values, (count, 3, height, width), &Device::Cpu)?.to_dtype(dtype)
}

/// Pixels (images of `area` × 3 bytes) → normalized red, green and blue planes of each image. `channels` are the means
/// and the standard deviations.
pub fn planes_of(pixels: &[u8], area: usize, channels: [[f32; 3]; 2]) -> Vec<f32> {
    let area = area.max(1);
    let mut values = vec![0f32; pixels.len()];
    values.par_chunks_mut(3 * area).zip(pixels.par_chunks(3 * area)).for_each(|(planes, pixels)| {
        vectorized(
            #[inline(always)]
            || split(pixels, planes, area, channels),
        );
    });
    values
}

/// Normalizes one image as `((pixel / 255) − mean) / std` in f32, bitwise equal to PyTorch.
#[inline(always)]
fn split(pixels: &[u8], planes: &mut [f32], area: usize, [mean, std]: [[f32; 3]; 2]) {
    const BLOCK: usize = 32;
    let (red, rest) = planes.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    let (pixels, _) = pixels.as_chunks::<3>();
    for (channel, plane) in [red, green, blue].into_iter().enumerate() {
        let (mean, std) = (mean[channel], std[channel]);
        for (values, pixels) in plane.chunks_mut(BLOCK).zip(pixels.chunks(BLOCK)) {
            for (value, pixel) in values.iter_mut().zip(pixels) {
                *value = (f32::from(pixel[channel]) / 255.0 - mean) / std;
            }
        }
    }
}
