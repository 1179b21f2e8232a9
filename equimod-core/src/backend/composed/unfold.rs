//! Unfolding of images into windows, by padding and strided slices.

use candle_core::{Result, Tensor};

use crate::backend::contract::Conv2dGeometry;

/// Windows of xs `[N, C, H, W]`, `[N, C, kh·kw, H'·W']`, with zero padding around the image.
pub fn unfold(xs: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let (batch, channels, height, width) = xs.dims4()?;
    let (out_height, out_width) = g.out_size((height, width))?;
    let padded = pad(xs, g)?;
    let mut windows = Vec::with_capacity(g.kernel.0 * g.kernel.1);
    for ky in 0..g.kernel.0 {
        for kx in 0..g.kernel.1 {
            let rows = strided(&padded, 2, ky, out_height, g.stride)?;
            let window = strided(&rows, 3, kx, out_width, g.stride)?;
            windows.push(window.reshape((batch, channels, out_height * out_width))?);
        }
    }
    Tensor::stack(&windows, 2)
}

/// Pads a dimension so that [`strided`] slices consist of whole steps.
fn pad(xs: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let after = g.padding + g.stride - 1;
    xs.pad_with_zeros(2, g.padding, after)?.pad_with_zeros(3, g.padding, after)
}

/// `count` elements along dimension `dim`, from `start`, with the given `stride`.
fn strided(xs: &Tensor, dim: usize, start: usize, count: usize, stride: usize) -> Result<Tensor> {
    let run = xs.narrow(dim, start, count * stride)?.contiguous()?;
    if stride == 1 {
        return Ok(run);
    }
    let mut dims = run.dims().to_vec();
    dims[dim] = count;
    dims.insert(dim + 1, stride);
    run.reshape(dims)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)?.contiguous()
}

/// Adjoint of [`strided`] for a dimension of `length` elements.
fn spread(xs: &Tensor, dim: usize, start: usize, stride: usize, length: usize) -> Result<Tensor> {
    let count = xs.dim(dim)?;
    let spaced = match stride {
        1 => xs.clone(),
        _ => {
            let mut dims = xs.dims().to_vec();
            dims[dim] = count * stride;
            xs.unsqueeze(dim + 1)?.pad_with_zeros(dim + 1, 0, stride - 1)?.reshape(dims)?
        }
    };
    spaced.pad_with_zeros(dim, start, length - start - count * stride)
}

/// Adjoint of [`unfold`]: windows `[N, C, kh·kw, H'·W']` → `[N, C, H, W]`.
pub fn fold(windows: &Tensor, g: &Conv2dGeometry, (height, width): (usize, usize)) -> Result<Tensor> {
    let (batch, channels, _, _) = windows.dims4()?;
    let (out_height, out_width) = g.out_size((height, width))?;
    let padded = |size: usize| size + 2 * g.padding + g.stride - 1;
    let mut sum: Option<Tensor> = None;
    for offset in 0..g.kernel.0 * g.kernel.1 {
        let (ky, kx) = (offset / g.kernel.1, offset % g.kernel.1);
        let window = windows.narrow(2, offset, 1)?.reshape((batch, channels, out_height, out_width))?;
        let rows = spread(&window, 2, ky, g.stride, padded(height))?;
        let part = spread(&rows, 3, kx, g.stride, padded(width))?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    match sum {
        Some(sum) => sum.narrow(2, g.padding, height)?.narrow(3, g.padding, width)?.contiguous(),
        None => Tensor::zeros((batch, channels, height, width), windows.dtype(), windows.device()),
    }
}
