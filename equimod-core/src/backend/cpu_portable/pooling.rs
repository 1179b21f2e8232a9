//! Pooling of tensors by the kernels over planes.

use candle_core::{Device, Result, Tensor};

use super::CpuPortable;
use super::kernels::pooling as kernels;
use crate::backend::contract::{PoolShape, PoolingOps};
use crate::backend::cpu::{Values, plain, winners_of};

impl PoolingOps for CpuPortable {
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)> {
        let (batch, channels, _, _) = xs.dims4()?;
        let dims = [batch, channels, s.out_size.0, s.out_size.1];
        let count = dims.iter().product();
        let (mut ys, mut winners) = (vec![0f64; count], vec![0u32; count]);
        kernels::maximum(Values::of(&plain(xs)?)?.get()?, *s, &mut ys, &mut winners);
        let dims = dims.as_slice();
        Ok((Tensor::from_vec(ys, dims, &Device::Cpu)?, Tensor::from_vec(winners, dims, &Device::Cpu)?))
    }

    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor> {
        let in_size = s.in_size;
        let (batch, channels, out_height, out_width) = dys.dims4()?;
        let (dys, winners) = (plain(dys)?, winners_of(&plain(winners)?, in_size)?);
        let (area, out_area) = (in_size.0 * in_size.1, out_height * out_width);
        let mut dxs = vec![0f64; batch * channels * area];
        kernels::maximum_backward(Values::of(&dys)?.get()?, &winners, area, out_area, &mut dxs);
        Tensor::from_vec(dxs, (batch, channels, in_size.0, in_size.1), &Device::Cpu)
    }

    fn global_average_pool(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = xs.dims4()?;
        let mut means = vec![0f64; batch * channels];
        kernels::average(Values::of(&plain(xs)?)?.get()?, height * width, &mut means);
        Tensor::from_vec(means, (batch, channels), &Device::Cpu)
    }

    fn global_average_pool_backward(&self, dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let (batch, channels) = dys.dims2()?;
        let mut dxs = vec![0f64; batch * channels * height * width];
        kernels::average_backward(Values::of(&plain(dys)?)?.get()?, height * width, &mut dxs);
        Tensor::from_vec(dxs, (batch, channels, height, width), &Device::Cpu)
    }
}
