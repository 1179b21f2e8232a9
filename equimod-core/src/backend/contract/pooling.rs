//! Pooling of `[N, C, H, W]`.

use candle_core::{Result, Tensor};

use super::shapes::PoolShape;

/// Maximum over windows and mean over planes, forward and backward.
pub trait PoolingOps {
    /// xs `[N, C, H, W]` → the maximum of each window `[N, C, H', W']` and its index in the H × W plane (u32, the same
    /// shape); of equal values the first wins, and a value that is not a number wins over numbers.
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)>;

    /// Gradient of a max-pool's input: dys and the winners' indices `[N, C, H', W']` → `[N, C, H, W]`.
    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, in_size: (usize, usize)) -> Result<Tensor>;

    /// xs `[N, C, H, W]` → the mean of each plane, `[N, C]`.
    fn global_average_pool(&self, xs: &Tensor) -> Result<Tensor> {
        xs.detach().mean((2, 3))
    }

    /// Gradient of the input of [`global_average_pool`](Self::global_average_pool): dys `[N, C]` → `[N, C, H, W]`.
    fn global_average_pool_backward(&self, dys: &Tensor, in_size: (usize, usize)) -> Result<Tensor> {
        let ((batch, channels), (height, width)) = (dys.dims2()?, in_size);
        let shares = (dys.detach() / (height * width) as f64)?;
        shares.reshape((batch, channels, 1, 1))?.broadcast_as((batch, channels, height, width))?.contiguous()
    }
}
