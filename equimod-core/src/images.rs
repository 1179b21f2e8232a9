//! Conversion of 8-bit pixels to normalized tensors.

use candle_core::{DType, Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::backend::contract::{PixelOperation, Resampling, ViewProgram, ViewPrograms};
use crate::backend::{self, contract::PixelShape};
use crate::{Error, Result};

/// Normalization by the mean and standard deviation of each channel, for pixel values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Means of red, green, blue.
    pub mean: [f32; 3],
    /// Standard deviations of red, green, blue.
    pub std: [f32; 3],
}

/// Preprocessing of a network's input images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the square input, in pixels.
    pub size: usize,
    /// Normalization of pixel values in [0, 1].
    #[serde(alias = "normalisation")]
    pub normalization: Normalization,
}

/// Whether [`Normalization::views`] works on a device, for tensors of an element type.
pub fn makes_views(device: &Device, dtype: DType) -> bool {
    backend::on(device, dtype).makes_views()
}

impl Normalization {
    /// CIFAR-10 statistics, as in the reference code.
    pub const CIFAR10: Self = Self { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.243, 0.261] };
    /// ImageNet statistics, as in torchvision.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// Lookup table of `((pixel / 255) − mean) / std` in f32 for each channel and pixel value; bitwise equal to
    /// PyTorch.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }

    /// A sentence if a mean is not finite or a standard deviation not positive; empty otherwise.
    pub fn validate(&self) -> Vec<String> {
        let fine = self.mean.iter().all(|m| m.is_finite()) && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if fine {
            Vec::new()
        } else {
            vec!["normalization.mean needs finite numbers, and normalization.std numbers above 0".into()]
        }
    }

    /// 8-bit RGB pixels of `count` images, `count·height·width·3` bytes → normalized tensor
    /// `[count, 3, height, width]`.
    ///
    /// The bytes are transferred to the device and normalized there.
    ///
    /// # Errors
    ///
    /// If the number of bytes is 0 or does not match, or a tensor operation fails.
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

    /// Views of 8-bit RGB originals, made on the device and normalized: `[views, 3, height, width]` for each entry of
    /// `programs`.
    ///
    /// # Errors
    ///
    /// If a program reads outside of `originals` or does not match its size, there are no views, or
    /// [`makes_views`] is false for the device and element type.
    pub fn views(
        &self,
        originals: &[u8],
        programs: &[ViewPrograms],
        device: &Device,
        dtype: DType,
    ) -> Result<Vec<Tensor>> {
        for ViewPrograms { size, views } in programs {
            let misfit = views.iter().position(|view| !view.fits(*size, originals.len()));
            if misfit.is_some() || views.is_empty() {
                return Err(Error::ShapeMismatch {
                    what: format!("view {} of {} × {}", misfit.unwrap_or(0), size.0, size.1),
                    expected: format!("a program within {} bytes of originals", originals.len()),
                    found: "one that reads or writes outside".into(),
                });
            }
        }
        Ok(backend::on(device, dtype).views(originals, programs, [self.mean, self.std], device, dtype)?)
    }

    /// 8-bit RGB pixels of images of `area` pixels each → normalized red, green and blue planes of each image, in f32.
    pub fn planes(&self, pixels: &[u8], area: usize) -> Vec<f32> {
        backend::cpu::planes_of(pixels, area, [self.mean, self.std])
    }
}
