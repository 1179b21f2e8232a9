//! Max-pool and global average pool.

use candle_core::{DType, Result, Tensor};

use super::Cuda;
use super::batch_norm::over_rows;
use super::launch::{Grid, Kernel, Module, launch, variant};
use super::memory::{address, channels_second, count, device_of, rows, uninitialized};
use crate::backend::contract::{PoolShape, PoolingOps};

/// Blocks of the kernels that stride over pixels, at most.
const BLOCKS: u32 = 8192;

const fn kernel(name: &'static str, suffix: &'static str) -> Kernel {
    Kernel { module: Module::Pooling, name, suffix }
}

impl PoolingOps for Cuda {
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)> {
        let xs = rows(xs)?;
        let (batch, height, width, channels) = xs.dims4()?;
        let dims = [batch, s.out_size.0, s.out_size.1, channels];
        let ys = uninitialized(&dims, xs.dtype(), xs.device())?;
        let winners = uninitialized(&dims, DType::U32, xs.device())?;
        let (x, y, winner) = (address(&xs)?, address(&ys)?, address(&winners)?);
        let (suffix, pack) = variant(xs.dtype(), channels, &[x, y])?;
        let grid = Grid::strided(ys.elem_count() / pack, BLOCKS);
        let (n, c, h, w) = (count(batch)?, count(channels)?, count(height)?, count(width)?);
        let (oh, ow) = (count(s.out_size.0)?, count(s.out_size.1)?);
        let (side, stride, padding) = (count(s.kernel)?, count(s.stride)?, count(s.padding)?);
        let (device, kernel) = (device_of(&xs)?, kernel("max_pool", suffix));
        launch!(device, kernel, grid, x, y, winner, n, c, h, w, oh, ow, side, stride, padding)?;
        Ok((channels_second(&ys)?, channels_second(&winners)?))
    }

    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor> {
        let (dys, winners) = (rows(dys)?, rows(winners)?);
        let (batch, out_height, out_width, channels) = dys.dims4()?;
        let (height, width) = s.in_size;
        let dxs = uninitialized(&[batch, height, width, channels], dys.dtype(), dys.device())?;
        let (dy, winner, dx) = (address(&dys)?, address(&winners)?, address(&dxs)?);
        let (suffix, pack) = variant(dys.dtype(), channels, &[dy, dx])?;
        let grid = Grid::strided(dxs.elem_count() / pack, BLOCKS);
        let (n, c, h, w) = (count(batch)?, count(channels)?, count(height)?, count(width)?);
        let (oh, ow) = (count(out_height)?, count(out_width)?);
        let (side, stride, padding) = (count(s.kernel)?, count(s.stride)?, count(s.padding)?);
        let (device, kernel) = (device_of(&dys)?, kernel("max_pool_backward", suffix));
        launch!(device, kernel, grid, dy, winner, dx, n, c, h, w, oh, ow, side, stride, padding)?;
        channels_second(&dxs)
    }

    fn global_average_pool(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = rows(xs)?;
        let (batch, height, width, channels) = xs.dims4()?;
        let ys = uninitialized(&[batch, channels], xs.dtype(), xs.device())?;
        let (x, y) = (address(&xs)?, address(&ys)?);
        let (suffix, pack) = variant(xs.dtype(), channels, &[x, y])?;
        let (n, area, c) = (count(batch)?, count(height * width)?, count(channels)?);
        let grid = over_rows(n, c, pack);
        launch!(device_of(&xs)?, kernel("average_pool", suffix), grid, x, y, n, area, c)?;
        Ok(ys)
    }

    fn global_average_pool_backward(&self, dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let dys = rows(dys)?;
        let (batch, channels) = dys.dims2()?;
        let dxs = uninitialized(&[batch, height, width, channels], dys.dtype(), dys.device())?;
        let (dy, dx) = (address(&dys)?, address(&dxs)?);
        let (suffix, pack) = variant(dys.dtype(), channels, &[dy, dx])?;
        let (n, area, c) = (count(batch)?, count(height * width)?, count(channels)?);
        let grid = over_rows(count(batch * height * width)?, c, pack);
        launch!(device_of(&dys)?, kernel("average_pool_backward", suffix), grid, dy, dx, n, area, c)?;
        channels_second(&dxs)
    }
}
