//! Pixels to normalized tensors.

use candle_core::{DType, Device, Result, Tensor};

use super::launch::{Grid, Kernel, Module, launch};
use super::memory::{address, channels_second, count, device_of, uninitialized};
use super::upload::upload;
use super::{Cuda, views};
use crate::backend::contract::{ImageOps, PixelShape, ViewPrograms};

/// Mean and standard deviation of the channels, as the kernel takes them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Channels {
    mean: [f32; 3],
    std: [f32; 3],
}

/// Normalizes pixels `[count, height, width, 3]` at an address on the device: `[count, 3, height, width]`.
fn normalize(pixels: u64, shape: PixelShape, channels: Channels, device: &Device, dtype: DType) -> Result<Tensor> {
    let PixelShape { count: images, height, width } = shape;
    let values = uninitialized(&[images, height, width, 3], dtype, device)?;
    let suffix = if dtype == DType::BF16 { "_bf16" } else { "_f32" };
    let kernel = Kernel { module: Module::Images, name: "normalize", suffix };
    let (to, number) = (address(&values)?, count(images * height * width)?);
    let grid = Grid::strided(number as usize, 4096);
    launch!(device_of(&values)?, kernel, grid, pixels, to, number, channels)?;
    channels_second(&values)
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
        let channels = Channels { mean, std };
        upload(&[pixels], device, |addresses| normalize(addresses[0], shape, channels, device, dtype))
    }

    fn makes_views(&self) -> bool {
        true
    }

    fn views(
        &self,
        originals: &[u8],
        programs: &[ViewPrograms],
        [mean, std]: [[f32; 3]; 2],
        device: &Device,
        dtype: DType,
    ) -> Result<Vec<Tensor>> {
        let (made, channels) = (views::make(originals, programs, device)?, Channels { mean, std });
        let each = made.iter().zip(programs).map(|(pixels, programs)| {
            let (height, width) = programs.size;
            let shape = PixelShape { count: programs.views.len(), height, width };
            normalize(address(pixels)?, shape, channels, device, dtype)
        });
        each.collect()
    }
}
