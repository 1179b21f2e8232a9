//! Forward and backward pass of pooling over `[N, C, H, W]`.

use candle_core::{Result, Tensor, bail};

use crate::backend;
use crate::backend::contract::{Conv2dGeometry, ConvAlgorithms, PoolShape};

fn not_empty(xs: &Tensor) -> Result<()> {
    match xs.elem_count() {
        0 => bail!("a pool needs images, channels and pixels, got {:?}", xs.dims()),
        _ => Ok(()),
    }
}

/// Positions of the maxima that a max-pool found.
#[derive(Clone, Debug)]
pub struct MaxPoolWinners {
    /// Index in the H × W plane of the maximum of each window, `[N, C, H', W']`, u32.
    pub indices: Tensor,
    shape: PoolShape,
}

/// Max-pool of xs `[N, C, H, W]` → maximum of each window, `[N, C, H', W']`, and its position. The first of equal
/// values wins, as in PyTorch.
///
/// # Errors
///
/// If no window fits, or a tensor operation fails.
pub fn max_pool2d(xs: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<(Tensor, MaxPoolWinners)> {
    let (_, _, height, width) = xs.dims4()?;
    not_empty(xs)?;
    if 2 * padding > kernel {
        bail!("max-pool pads by {padding}, more than half its window of {kernel}");
    }
    let geometry =
        Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups: 1, algorithms: ConvAlgorithms::default() };
    let in_size = (height, width);
    let shape = PoolShape { kernel, stride, padding, in_size, out_size: geometry.out_size(in_size)? };
    let (ys, indices) = backend::of(xs).max_pool2d(xs, &shape)?;
    Ok((ys, MaxPoolWinners { indices, shape }))
}

/// Gradient of a max-pool's input, `[N, C, H, W]`, from dys `[N, C, H', W']` and the positions of [`max_pool2d`].
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn max_pool2d_backward(dys: &Tensor, winners: &MaxPoolWinners) -> Result<Tensor> {
    let MaxPoolWinners { indices, shape } = winners;
    if dys.dims() != indices.dims() {
        bail!("a gradient of shape {:?} does not fit winners of shape {:?}", dys.dims(), indices.dims());
    }
    not_empty(dys)?;
    dys.dims4()?;
    backend::of(dys).max_pool2d_backward(dys, indices, shape)
}

/// Global average pool of xs `[N, C, H, W]` → `[N, C]`.
///
/// # Errors
///
/// If xs does not have four dimensions, or a tensor operation fails.
pub fn global_average_pool(xs: &Tensor) -> Result<Tensor> {
    not_empty(xs)?;
    xs.dims4()?;
    backend::of(xs).global_average_pool(xs)
}

/// Gradient of the input of [`global_average_pool`], `[N, C, H, W]` with (H, W) = `in_size`, from dys `[N, C]`.
///
/// # Errors
///
/// If dys does not have two dimensions, or a tensor operation fails.
pub fn global_average_pool_backward(dys: &Tensor, in_size: (usize, usize)) -> Result<Tensor> {
    not_empty(dys)?;
    dys.dims2()?;
    backend::of(dys).global_average_pool_backward(dys, in_size)
}
