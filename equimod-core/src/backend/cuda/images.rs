//! Pixels to normalized tensors.

use candle_core::{DType, Device, Result, Tensor};

use super::Cuda;
use super::launch::{Grid, Kernel, Module, launch};
use super::memory::{address, channels_second, count, device_of, uninitialized};
use super::upload::upload;
use crate::backend::contract::{ImageOps, PixelShape};

/// Mean and standard deviation of the channels, as the kernel takes them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Channels {
    mean: [f32; 3],
    std: [f32; 3],
}

impl ImageOps for Cuda {
    fn normalized(
        &self,
        pixels: &[u8],
        shape: PixelShape,
        [mean, std]: [[f32; 3]; 2],
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor> {
        let PixelShape { count: images, height, width } = shape;
        let values = uninitialized(&[images, height, width, 3], dtype, device)?;
        let suffix = if dtype == DType::BF16 { "_bf16" } else { "_f32" };
        let kernel = Kernel { module: Module::Images, name: "normalize", suffix };
        let (to, number) = (address(&values)?, count(images * height * width)?);
        let (grid, channels) = (Grid::strided(number as usize, 4096), Channels { mean, std });
        upload(pixels, device, |from| launch!(device_of(&values)?, kernel, grid, from, to, number, channels))?;
        channels_second(&values)
    }
}
