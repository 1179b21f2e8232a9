//! Pooling of tensors by the kernels over rows.

use candle_core::{Device, Result, Tensor};
use pulp::Arch;

use super::CpuFast;
use super::kernels::pooling as kernels;
use super::layout::{from_rows, rows};
use crate::backend::contract::{PoolShape, PoolingOps};
use crate::backend::cpu::{Values, plain, winners_of};

impl PoolingOps for CpuFast {
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)> {
        let (batch, channels, _, _) = xs.dims4()?;
        let dims = [batch, channels, s.out_size.0, s.out_size.1];
        let (ys, winners) = kernels::maximum(Arch::new(), Values::of(&rows(xs)?)?.get()?, channels, *s);
        Ok((from_rows(ys, &dims)?, from_rows(winners, &dims)?))
    }

    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor> {
        let in_size = s.in_size;
        let (batch, channels, out_height, out_width) = dys.dims4()?;
        let (dys, winners) = (rows(dys)?, winners_of(&rows(winners)?, in_size)?);
        let areas = (in_size.0 * in_size.1, out_height * out_width);
        let dxs = kernels::maximum_backward(Values::of(&dys)?.get()?, &winners, channels, areas.0, areas.1);
        from_rows(dxs, &[batch, channels, in_size.0, in_size.1])
    }

    fn global_average_pool(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = xs.dims4()?;
        let means = kernels::average(Arch::new(), Values::of(&rows(xs)?)?.get()?, channels, height * width);
        Tensor::from_vec(means, (batch, channels), &Device::Cpu)
    }

    fn global_average_pool_backward(&self, dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let (batch, channels) = dys.dims2()?;
        let dxs = kernels::average_backward(Values::of(&plain(dys)?)?.get()?, channels, height * width);
        from_rows(dxs, &[batch, channels, height, width])
    }
}
