//! The operations of this module's parent from candle's own, in GEMM form: what runs on CUDA and Metal.
//!
//! A convolution is a product with the unfolded windows; unfolding is padding and strided slices, and its adjoint adds
//! the slices back. No backward of candle is used. Tested on the CPU against the kernels.

use candle_core::{D, DType, Result, Tensor};

use super::Conv2dGeometry;

/// xs `[N, C, H, W]` → the windows `[N, C, kh·kw, H'·W']`, with `fill` around the picture.
fn unfold(xs: &Tensor, g: &Conv2dGeometry, fill: f64) -> Result<Tensor> {
    let (batch, channels, height, width) = xs.dims4()?;
    let (out_height, out_width) = g.out_size((height, width))?;
    let padded = pad(xs, g, fill)?;
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

/// Pads so that every strided slice of [`strided`] has whole steps.
fn pad(xs: &Tensor, g: &Conv2dGeometry, fill: f64) -> Result<Tensor> {
    let shifted = if fill == 0.0 { xs.clone() } else { (xs - fill)? };
    let after = g.padding + g.stride - 1;
    let padded = shifted.pad_with_zeros(2, g.padding, after)?.pad_with_zeros(3, g.padding, after)?;
    if fill == 0.0 { Ok(padded) } else { padded + fill }
}

/// `count` elements of dimension `dim` from `start` on, `stride` apart.
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

/// The adjoint of [`strided`] in a dimension of `length` elements.
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

/// The adjoint of [`unfold`]: windows `[N, C, kh·kw, H'·W']` → `[N, C, H, W]`.
fn fold(windows: &Tensor, g: &Conv2dGeometry, (height, width): (usize, usize)) -> Result<Tensor> {
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

/// Windows of all channel groups as matrices `[N, groups, C/groups·kh·kw, H'·W']`.
fn matrices(windows: &Tensor, groups: usize) -> Result<Tensor> {
    let (batch, channels, window, area) = windows.dims4()?;
    windows.reshape((batch, groups, channels / groups * window, area))
}

/// The weight as matrices `[1, groups, O/groups, C/groups·kh·kw]`.
fn weight_matrices(weight: &Tensor, groups: usize) -> Result<Tensor> {
    let (out, channels, kh, kw) = weight.dims4()?;
    weight.reshape((1, groups, out / groups, channels * kh * kw))
}

/// [`super::conv2d`].
pub fn conv2d(xs: &Tensor, weight: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let (xs, weight) = (xs.detach(), weight.detach().contiguous()?);
    let (batch, _, height, width) = xs.dims4()?;
    let (out_height, out_width) = g.out_size((height, width))?;
    let windows = matrices(&unfold(&xs, g, 0.0)?, g.groups)?;
    let product = weight_matrices(&weight, g.groups)?.broadcast_matmul(&windows)?;
    product.reshape((batch, weight.dim(0)?, out_height, out_width))
}

/// [`super::conv2d_backward_data`].
pub fn conv2d_backward_data(
    dys: &Tensor,
    weight: &Tensor,
    g: &Conv2dGeometry,
    in_size: (usize, usize),
) -> Result<Tensor> {
    let (dys, weight) = (dys.detach().contiguous()?, weight.detach().contiguous()?);
    let (batch, out, out_height, out_width) = dys.dims4()?;
    let area = out_height * out_width;
    let dys = dys.reshape((batch, g.groups, out / g.groups, area))?;
    let transposed = weight_matrices(&weight, g.groups)?.transpose(2, 3)?.contiguous()?;
    let windows = transposed.broadcast_matmul(&dys)?;
    let channels = weight.dim(1)? * g.groups;
    fold(&windows.reshape((batch, channels, g.kernel.0 * g.kernel.1, area))?, g, in_size)
}

/// [`super::conv2d_backward_weight`].
pub fn conv2d_backward_weight(xs: &Tensor, dys: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let (xs, dys) = (xs.detach(), dys.detach().contiguous()?);
    let (batch, out, out_height, out_width) = dys.dims4()?;
    let windows = matrices(&unfold(&xs, g, 0.0)?, g.groups)?.transpose(2, 3)?.contiguous()?;
    let dys = dys.reshape((batch, g.groups, out / g.groups, out_height * out_width))?;
    let sum = dys.matmul(&windows)?.sum(0)?;
    sum.reshape((out, xs.dim(1)? / g.groups, g.kernel.0, g.kernel.1))
}

/// `[C]` → the shape that broadcasts over `[N, C, …]`.
fn along_channels(values: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; like.rank()];
    dims[1] = values.elem_count();
    values.detach().reshape(dims)
}

/// Sums over everything but the channels, in f32.
fn channel_sum(xs: &Tensor) -> Result<Tensor> {
    xs.to_dtype(DType::F32)?.transpose(0, 1)?.flatten_from(1)?.sum(D::Minus1)
}

/// [`super::batch_norm_sums`], in f32.
pub fn batch_norm_sums(xs: &Tensor) -> Result<Tensor> {
    let xs = xs.detach();
    Tensor::stack(&[channel_sum(&xs)?, channel_sum(&xs.sqr()?)?], 0)
}

/// [`super::batch_norm_apply`].
pub fn batch_norm_apply(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let scaled = xs.detach().broadcast_mul(&along_channels(scale, xs)?)?;
    let mut ys = scaled.broadcast_add(&along_channels(shift, xs)?)?;
    if let Some(residual) = residual {
        ys = (ys + residual.detach())?;
    }
    if relu { ys.relu() } else { Ok(ys) }
}

fn masked(dys: &Tensor, ys: &Tensor) -> Result<Tensor> {
    dys.detach() * ys.detach().gt(0.0)?.to_dtype(dys.dtype())?
}

/// [`super::relu_backward`].
pub fn relu_backward(dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
    match more {
        Some(more) => masked(&(dys.detach() + more.detach())?, ys),
        None => masked(dys, ys),
    }
}

fn maybe_masked(dys: &Tensor, ys: Option<&Tensor>) -> Result<Tensor> {
    ys.map_or_else(|| Ok(dys.detach()), |ys| masked(dys, ys))
}

fn normalised(xs: &Tensor, mean: &Tensor, inverse_deviation: &Tensor) -> Result<Tensor> {
    xs.detach().broadcast_sub(&along_channels(mean, xs)?)?.broadcast_mul(&along_channels(inverse_deviation, xs)?)
}

/// [`super::batch_norm_backward_sums`], in f32.
pub fn batch_norm_backward_sums(
    dys: &Tensor,
    ys: Option<&Tensor>,
    xs: &Tensor,
    mean: &Tensor,
    inverse_deviation: &Tensor,
) -> Result<Tensor> {
    let dys = maybe_masked(dys, ys)?;
    let product = (&dys * normalised(xs, mean, inverse_deviation)?)?;
    Tensor::stack(&[channel_sum(&dys)?, channel_sum(&product)?], 0)
}

/// [`super::batch_norm_backward`].
pub fn batch_norm_backward(
    dys: &Tensor,
    ys: Option<&Tensor>,
    xs: &Tensor,
    [scale, slope, offset]: [&Tensor; 3],
) -> Result<Tensor> {
    let scaled = maybe_masked(dys, ys)?.broadcast_mul(&along_channels(scale, xs)?)?;
    let sloped = xs.detach().broadcast_mul(&along_channels(slope, xs)?)?;
    (scaled + sloped)?.broadcast_add(&along_channels(offset, xs)?)
}

/// Stands in for −∞ around the picture: below every finite activation, and finite when added and taken away.
const LOWEST: f64 = -1e30;

/// [`super::max_pool2d`].
pub fn max_pool2d(xs: &Tensor, g: &Conv2dGeometry) -> Result<(Tensor, Tensor)> {
    let xs = xs.detach();
    let (batch, channels, height, width) = xs.dims4()?;
    let (out_height, out_width) = g.out_size((height, width))?;
    let shape = (batch, channels, out_height, out_width);
    let inside = unfold(&Tensor::ones_like(&xs)?, g, 0.0)?;
    let windows = (unfold(&xs, g, 0.0)? + ((1.0 - inside)? * LOWEST)?)?.transpose(2, 3)?.contiguous()?;
    let places: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
    let places = Tensor::from_vec(places, (1, 1, height, width), &candle_core::Device::Cpu)?.to_device(xs.device())?;
    let places = unfold(&places, g, 0.0)?.transpose(2, 3)?.contiguous()?;
    let best = windows.argmax_keepdim(D::Minus1)?;
    let winners = places.broadcast_as(windows.shape())?.contiguous()?.gather(&best, D::Minus1)?;
    Ok((windows.max(D::Minus1)?.reshape(shape)?, winners.to_dtype(DType::U32)?.reshape(shape)?))
}

/// [`super::max_pool2d_backward`].
pub fn max_pool2d_backward(dys: &Tensor, winners: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let dys = dys.detach().contiguous()?;
    let (batch, channels, out_height, out_width) = dys.dims4()?;
    let flat = (batch, channels, out_height * out_width);
    let sums = Tensor::zeros((batch, channels, height * width), dys.dtype(), dys.device())?;
    let sums = sums.scatter_add(&winners.reshape(flat)?.contiguous()?, &dys.reshape(flat)?, 2)?;
    sums.reshape((batch, channels, height, width))
}

/// [`super::global_average_pool_backward`].
pub fn global_average_pool_backward(dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (batch, channels) = dys.dims2()?;
    let shares = (dys.detach() / (height * width) as f64)?;
    shares.reshape((batch, channels, 1, 1))?.broadcast_as((batch, channels, height, width))?.contiguous()
}
