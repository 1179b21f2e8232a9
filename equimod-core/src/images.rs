//! From 8-bit pixels to normalised tensors.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernels::vectorised;
use crate::{Error, Result};

/// Channel means and deviations of pixel values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Means of red, green, blue.
    pub mean: [f32; 3],
    /// Deviations of red, green, blue.
    pub std: [f32; 3],
}

/// How images enter a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the square input, in pixels.
    pub size: usize,
    /// Of pixel values in [0, 1].
    pub normalisation: Normalisation,
}

impl Normalisation {
    /// CIFAR-10's, as the reference has it.
    pub const CIFAR10: Self = Self { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.243, 0.261] };
    /// ImageNet's, as torchvision has it.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// `((pixel / 255) − mean) / std` in f32, for every channel and pixel value; bit for bit PyTorch's.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }

    /// Every problem of the values.
    pub fn validate(&self) -> Vec<String> {
        let fine = self.mean.iter().all(|m| m.is_finite()) && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if fine { Vec::new() } else { vec!["the normalisation needs finite means and deviations above 0".into()] }
    }

    /// pixels (`count` pictures of `height` × `width` × 3 bytes, one after the other) → `[count, 3, height, width]`.
    ///
    /// The bytes cross to the device as they are and are normalised there.
    pub fn tensor(
        &self,
        pixels: &[u8],
        (count, height, width): (usize, usize, usize),
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor> {
        let expected = count * height * width * 3;
        if pixels.len() != expected || expected == 0 {
            let text =
                format!("{count} pictures of {height} × {width} need {expected} bytes above 0, got {}", pixels.len());
            return Err(Error::Config(text));
        }
        if device.is_cpu() {
            let values = self.planes(pixels, height * width);
            return Ok(Tensor::from_vec(values, (count, 3, height, width), device)?.to_dtype(dtype)?);
        }
        let bytes = Tensor::from_slice(pixels, (count, height, width, 3), device)?;
        let values = (bytes.permute((0, 3, 1, 2))?.contiguous()?.to_dtype(DType::F32)? / 255.0)?;
        let channel = |v: [f32; 3]| Tensor::new(&v, device)?.reshape((1, 3, 1, 1));
        Ok(values.broadcast_sub(&channel(self.mean)?)?.broadcast_div(&channel(self.std)?)?.to_dtype(dtype)?)
    }

    /// pixels (pictures of `area` × 3 bytes, one after the other) → each picture's red, green and blue plane.
    pub fn planes(&self, pixels: &[u8], area: usize) -> Vec<f32> {
        let area = area.max(1);
        let mut values = vec![0f32; pixels.len()];
        values.par_chunks_mut(3 * area).zip(pixels.par_chunks(3 * area)).for_each(|(planes, pixels)| {
            vectorised(
                #[inline(always)]
                || self.split(pixels, planes, area),
            );
        });
        values
    }

    /// One picture. The same operations as in [`table`](Self::table), in vectors.
    #[inline(always)]
    fn split(&self, pixels: &[u8], planes: &mut [f32], area: usize) {
        const BLOCK: usize = 32;
        let (red, rest) = planes.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        let (pixels, _) = pixels.as_chunks::<3>();
        for (channel, plane) in [red, green, blue].into_iter().enumerate() {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            for (values, pixels) in plane.chunks_mut(BLOCK).zip(pixels.chunks(BLOCK)) {
                for (value, pixel) in values.iter_mut().zip(pixels) {
                    *value = (f32::from(pixel[channel]) / 255.0 - mean) / std;
                }
            }
        }
    }
}
