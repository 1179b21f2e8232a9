//! Max-pool, by unfolding and gathering.

use candle_core::{D, DType, Device, Result, Tensor};

use super::Composed;
use super::unfold::unfold;
use crate::backend::contract::{PoolShape, PoolingOps};

/// Padding value in place of −∞: below every finite activation, and finite itself in sums and differences.
const LOWEST: f64 = -1e30;

impl PoolingOps for Composed {
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)> {
        let (xs, g) = (xs.detach(), &s.geometry());
        let (batch, channels, height, width) = xs.dims4()?;
        let shape = (batch, channels, s.out_size.0, s.out_size.1);
        let inside = unfold(&Tensor::ones_like(&xs)?, g)?;
        let windows = (unfold(&xs, g)? + ((1.0 - inside)? * LOWEST)?)?.transpose(2, 3)?.contiguous()?;
        let places: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
        let places = Tensor::from_vec(places, (1, 1, height, width), &Device::Cpu)?.to_device(xs.device())?;
        let places = unfold(&places, g)?.transpose(2, 3)?.contiguous()?;
        let best = windows.argmax_keepdim(D::Minus1)?;
        let winners = places.broadcast_as(windows.shape())?.contiguous()?.gather(&best, D::Minus1)?;
        Ok((windows.max(D::Minus1)?.reshape(shape)?, winners.to_dtype(DType::U32)?.reshape(shape)?))
    }

    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor> {
        let (height, width) = s.in_size;
        let dys = dys.detach().contiguous()?;
        let (batch, channels, out_height, out_width) = dys.dims4()?;
        let flat = (batch, channels, out_height * out_width);
        let sums = Tensor::zeros((batch, channels, height * width), dys.dtype(), dys.device())?;
        let sums = sums.scatter_add(&winners.reshape(flat)?.contiguous()?, &dys.reshape(flat)?, 2)?;
        sums.reshape((batch, channels, height, width))
    }
}
