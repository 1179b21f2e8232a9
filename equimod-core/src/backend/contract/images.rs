//! Conversion of 8-bit pixels to normalized tensors.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::views::ViewPrograms;

/// Number, height and width of RGB images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelShape {
    /// Number of images.
    pub count: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

/// Conversion of pixels to tensors.
pub trait ImageOps {
    /// Normalization `(pixel/255 − mean)/std` of each channel: pixels `[count, height, width, 3]` →
    /// `[count, 3, height, width]`.
    ///
    /// The bytes are transferred to the device before they are normalized.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn normalized(
        &self,
        pixels: &[u8],
        shape: PixelShape,
        [mean, std]: [[f32; 3]; 2],
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor> {
        let PixelShape { count, height, width } = shape;
        let bytes = Tensor::from_slice(pixels, (count, height, width, 3), device)?;
        let values = (bytes.permute((0, 3, 1, 2))?.contiguous()?.to_dtype(DType::F32)? / 255.0)?;
        let channels = |values: [f32; 3]| Tensor::new(&values, device)?.reshape((1, 3, 1, 1));
        values.broadcast_sub(&channels(mean)?)?.broadcast_div(&channels(std)?)?.to_dtype(dtype)
    }

    /// Whether [`views`](Self::views) works.
    fn makes_views(&self) -> bool {
        false
    }

    /// Views of original images, made and normalized on the device: `[views, 3, height, width]` for each entry of
    /// `programs`.
    ///
    /// # Errors
    ///
    /// If the backend makes no views, or a tensor operation fails.
    fn views(
        &self,
        _originals: &[u8],
        _programs: &[ViewPrograms],
        _normalization: [[f32; 3]; 2],
        device: &Device,
        _dtype: DType,
    ) -> Result<Vec<Tensor>> {
        bail!("there are no kernels that make views on {device:?}; make them on the CPU")
    }
}
