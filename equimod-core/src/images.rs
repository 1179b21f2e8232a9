//! From 8-bit pixels to normalized tensors.

use candle_core::{DType, Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::{self, contract::PixelShape};
use crate::{Error, Result};

/// Means and standard deviations of the channels of pixel values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Means of red, green, blue.
    pub mean: [f32; 3],
    /// Standard deviations of red, green, blue.
    pub std: [f32; 3],
}

/// How images enter a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the square input, in pixels.
    pub size: usize,
    /// Of pixel values in [0, 1].
    #[serde(alias = "normalisation")]
    pub normalization: Normalization,
}

impl Normalization {
    /// CIFAR-10's, as in the reference code.
    pub const CIFAR10: Self = Self { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.243, 0.261] };
    /// ImageNet's, as in torchvision.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// `((pixel / 255) − mean) / std` in f32, for every channel and pixel value; bit for bit PyTorch's.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }

    /// Every problem of the values.
    pub fn validate(&self) -> Vec<String> {
        let fine = self.mean.iter().all(|m| m.is_finite()) && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if fine {
            Vec::new()
        } else {
            vec!["the normalization needs finite means, and standard deviations above 0".into()]
        }
    }

    /// pixels (`count` images of `height` × `width` × 3 bytes, one after the other) → `[count, 3, height, width]`.
    ///
    /// The bytes cross to the device as they are and are normalized there. An error if there are none, or more or
    /// fewer.
    pub fn tensor(
        &self,
        pixels: &[u8],
        (count, height, width): (usize, usize, usize),
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor> {
        let expected = count * height * width * 3;
        if pixels.len() != expected || expected == 0 {
            return Err(Error::ShapeMismatch {
                what: format!("the pixels of {count} images of {height} × {width}"),
                expected: if expected == 0 { "at least one image".into() } else { format!("{expected} bytes") },
                found: format!("{} bytes", pixels.len()),
            });
        }
        let shape = PixelShape { count, height, width };
        Ok(backend::on(device, dtype).normalized(pixels, shape, [self.mean, self.std], device, dtype)?)
    }

    /// pixels (images of `area` × 3 bytes, one after the other) → the normalized red, green and blue plane of each
    /// image.
    pub fn planes(&self, pixels: &[u8], area: usize) -> Vec<f32> {
        backend::cpu::planes_of(pixels, area, [self.mean, self.std])
    }
}
