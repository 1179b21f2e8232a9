//! Average pool of a shortcut, which halves the resolution, rounding up.

use candle_core::Tensor;

use crate::Result;

/// Average over 2×2 windows, `[N, C, H, W]` → `[N, C, ⌈H / 2⌉, ⌈W / 2⌉]`. Windows at the end of an odd side cover fewer
/// pixels, as in PyTorch's `AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)`.
///
/// # Errors
///
/// If xs does not have four dimensions, or a tensor operation fails.
pub fn halved(xs: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = xs.dims4()?;
    // Replicating the last pixel gives the mean over the pixels that exist.
    let even = xs.contiguous()?.pad_with_same(2, 0, height % 2)?.pad_with_same(3, 0, width % 2)?;
    Ok(even.avg_pool2d(2)?)
}

/// Gradient of the input, `[N, C, height, width]`, from that of the output, `[N, C, ⌈height / 2⌉, ⌈width / 2⌉]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn halved_backward(dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (_, _, rows, columns) = dys.dims4()?;
    let even = (dys.contiguous()? * 0.25)?.upsample_nearest2d(2 * rows, 2 * columns)?;
    folded(&folded(&even, 2, height)?, 3, width)
}

/// The first `side` entries of a dimension, with the one beyond them, if any, added to the last.
fn folded(xs: &Tensor, dim: usize, side: usize) -> Result<Tensor> {
    if xs.dim(dim)? == side {
        return Ok(xs.clone());
    }
    let last = (xs.narrow(dim, side - 1, 1)? + xs.narrow(dim, side, 1)?)?;
    Ok(Tensor::cat(&[&xs.narrow(dim, 0, side - 1)?, &last], dim)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn windows_at_the_end_of_odd_sides_hold_fewer_pixels() {
        let xs = Tensor::arange(0f32, 15.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 5)).unwrap();
        let ys: Vec<f32> = halved(&xs).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(ys, [3.0, 5.0, 6.5, 10.5, 12.5, 14.0]);
        let dys = Tensor::ones((1, 1, 2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let dxs: Vec<f32> = halved_backward(&dys, (3, 5)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let (quarter, half) = ([0.25, 0.25, 0.25, 0.25, 0.5], [0.5, 0.5, 0.5, 0.5, 1.0]);
        assert_eq!(dxs, [quarter, quarter, half].concat());
    }
}
