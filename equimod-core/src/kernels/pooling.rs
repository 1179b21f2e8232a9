//! Pooling of tensors, forward and backward.

use candle_core::{Device, Result, Tensor, bail};
use pulp::Arch;

use super::composed;
use super::fast::pool as fast;
use super::portable::pool as portable;
use super::shapes::{Conv2dGeometry, PoolShape};
use super::values::{Kernels, Values, from_rows, planes, rows};

fn not_empty(xs: &Tensor) -> Result<()> {
    match xs.elem_count() {
        0 => bail!("a pool needs pictures, channels and pixels, got {:?}", xs.dims()),
        _ => Ok(()),
    }
}

/// xs `[N, C, H, W]` → the maximum of each window `[N, C, H', W']` and its index in the H × W plane (u32); of equal
/// values the first wins, as in PyTorch.
pub fn max_pool2d(xs: &Tensor, kernel_size: usize, stride: usize, padding: usize) -> Result<(Tensor, Tensor)> {
    let (batch, channels, height, width) = xs.dims4()?;
    not_empty(xs)?;
    if 2 * padding > kernel_size {
        bail!("max-pool pads by {padding}, more than half its window of {kernel_size}");
    }
    let geometry = Conv2dGeometry { kernel: (kernel_size, kernel_size), stride, padding, groups: 1, winograd: false };
    let out_size = geometry.out_size((height, width))?;
    let s = PoolShape { kernel: kernel_size, stride, padding, in_size: (height, width), out_size };
    let dims = [batch, channels, out_size.0, out_size.1];
    match Kernels::of(xs) {
        Kernels::Fast => {
            let (ys, winners) = fast::maximum(Arch::new(), Values::of(&rows(xs)?)?.get()?, channels, s);
            Ok((from_rows(ys, &dims)?, from_rows(winners, &dims)?))
        }
        Kernels::Portable => {
            let count = dims.iter().product();
            let (mut ys, mut winners) = (vec![0f64; count], vec![0u32; count]);
            portable::maximum(Values::of(&planes(xs)?)?.get()?, s, &mut ys, &mut winners);
            let dims = dims.as_slice();
            Ok((Tensor::from_vec(ys, dims, &Device::Cpu)?, Tensor::from_vec(winners, dims, &Device::Cpu)?))
        }
        Kernels::Composed => composed::max_pool2d(xs, &geometry),
    }
}

/// Gradient of a max-pool's input, from the winners of [`max_pool2d`].
pub fn max_pool2d_backward(dys: &Tensor, winners: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    if dys.dims() != winners.dims() {
        bail!("a gradient of shape {:?} does not fit winners of shape {:?}", dys.dims(), winners.dims());
    }
    not_empty(dys)?;
    let (batch, channels, out_height, out_width) = dys.dims4()?;
    let (area, out_area) = (height * width, out_height * out_width);
    let dims = [batch, channels, height, width];
    let places = |winners: &Tensor| -> Result<Vec<u32>> {
        let places = winners.flatten_all()?.to_vec1::<u32>()?;
        match places.iter().any(|&place| place as usize >= area) {
            true => bail!("a max-pool's winners lie outside {height} × {width}"),
            false => Ok(places),
        }
    };
    match Kernels::of(dys) {
        Kernels::Fast => {
            let (dys, winners) = (rows(dys)?, places(&rows(winners)?)?);
            let dxs = fast::maximum_backward(Values::of(&dys)?.get()?, &winners, channels, area, out_area);
            from_rows(dxs, &dims)
        }
        Kernels::Portable => {
            let (dys, winners) = (planes(dys)?, places(&planes(winners)?)?);
            let mut dxs = vec![0f64; dims.iter().product()];
            portable::maximum_backward(Values::of(&dys)?.get()?, &winners, area, out_area, &mut dxs);
            Tensor::from_vec(dxs, dims.as_slice(), &Device::Cpu)
        }
        Kernels::Composed => composed::max_pool2d_backward(dys, winners, (height, width)),
    }
}

/// xs `[N, C, H, W]` → the mean of each plane, `[N, C]`.
pub fn global_average_pool(xs: &Tensor) -> Result<Tensor> {
    not_empty(xs)?;
    let (batch, channels, height, width) = xs.dims4()?;
    match Kernels::of(xs) {
        Kernels::Fast => {
            let means = fast::average(Arch::new(), Values::of(&rows(xs)?)?.get()?, channels, height * width);
            Tensor::from_vec(means, (batch, channels), &Device::Cpu)
        }
        Kernels::Portable => {
            let mut means = vec![0f64; batch * channels];
            portable::average(Values::of(&planes(xs)?)?.get()?, height * width, &mut means);
            Tensor::from_vec(means, (batch, channels), &Device::Cpu)
        }
        Kernels::Composed => xs.mean((2, 3)),
    }
}

/// Gradient of [`global_average_pool`]'s input of height and width `size`.
pub fn global_average_pool_backward(dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    not_empty(dys)?;
    let (batch, channels) = dys.dims2()?;
    let dims = [batch, channels, height, width];
    match Kernels::of(dys) {
        Kernels::Fast => {
            from_rows(fast::average_backward(Values::of(&planes(dys)?)?.get()?, channels, height * width), &dims)
        }
        Kernels::Portable => {
            let mut dxs = vec![0f64; dims.iter().product()];
            portable::average_backward(Values::of(&planes(dys)?)?.get()?, height * width, &mut dxs);
            Tensor::from_vec(dxs, dims.as_slice(), &Device::Cpu)
        }
        Kernels::Composed => composed::global_average_pool_backward(dys, (height, width)),
    }
}
