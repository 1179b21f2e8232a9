//! Pooling over `[N, C, H, W]`.

use candle_core::{Result, Tensor};

use super::shapes::PoolShape;

/// Forward and backward pass of max-pool and global average pool.
pub trait PoolingOps {
    /// Max-pool of xs `[N, C, H, W]` → maximum of each window, `[N, C, H', W']`, and its index in the H × W plane (u32,
    /// same shape). The first of equal values wins, and NaN wins over numbers.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)>;

    /// Gradient of a max-pool's input: dys and the indices of the maxima, `[N, C, H', W']` each → `[N, C, H, W]`, for
    /// the shape of the [`max_pool2d`](Self::max_pool2d) that found them.
    ///
    /// # Errors
    ///
    /// If an index is out of range, or a tensor operation fails.
    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor>;

    /// Global average pool of xs `[N, C, H, W]` → `[N, C]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn global_average_pool(&self, xs: &Tensor) -> Result<Tensor> {
        xs.detach().mean((2, 3))
    }

    /// Gradient of the input of [`global_average_pool`](Self::global_average_pool): dys `[N, C]` → `[N, C, H, W]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn global_average_pool_backward(&self, dys: &Tensor, in_size: (usize, usize)) -> Result<Tensor> {
        let ((batch, channels), (height, width)) = (dys.dims2()?, in_size);
        let shares = (dys.detach() / (height * width) as f64)?;
        shares.reshape((batch, channels, 1, 1))?.broadcast_as((batch, channels, height, width))?.contiguous()
    }
}
