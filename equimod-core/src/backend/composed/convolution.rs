//! Convolution as a matrix product with the unfolded windows (im2col). Unfolding consists of padding and strided
//! slices; its adjoint adds the slices back.

use candle_core::{Result, Tensor};

use super::Composed;
use super::unfold::{fold, unfold};
use crate::backend::contract::{Conv2dGeometry, ConvShape, ConvolutionOps};

impl ConvShape {
    fn geometry(&self) -> Conv2dGeometry {
        let Self { kernel, stride, padding, groups, algorithms, .. } = *self;
        Conv2dGeometry { kernel, stride, padding, groups, algorithms }
    }
}

/// Windows of all channel groups as matrices `[N, groups, C/groups·kh·kw, H'·W']`.
fn matrices(windows: &Tensor, groups: usize) -> Result<Tensor> {
    let (batch, channels, window, area) = windows.dims4()?;
    windows.reshape((batch, groups, channels / groups * window, area))
}

/// The weight as matrices `[1, groups, O/groups, C/groups·kh·kw]`, one for each group.
fn weight_matrices(weight: &Tensor, groups: usize) -> Result<Tensor> {
    let (out, channels, kh, kw) = weight.dims4()?;
    weight.reshape((1, groups, out / groups, channels * kh * kw))
}

impl ConvolutionOps for Composed {
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        let (xs, weight) = (xs.detach(), weight.detach().contiguous()?);
        let windows = matrices(&unfold(&xs, &s.geometry())?, s.groups)?;
        weight_matrices(&weight, s.groups)?.broadcast_matmul(&windows)?.reshape(s.out_dims().as_slice())
    }

    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        let (dys, weight) = (dys.detach().contiguous()?, weight.detach().contiguous()?);
        let area = s.out_size.0 * s.out_size.1;
        let dys = dys.reshape((s.batch, s.groups, s.out_channels / s.groups, area))?;
        let transposed = weight_matrices(&weight, s.groups)?.transpose(2, 3)?.contiguous()?;
        let windows = transposed.broadcast_matmul(&dys)?;
        let windows = windows.reshape((s.batch, s.in_channels, s.kernel.0 * s.kernel.1, area))?;
        fold(&windows, &s.geometry(), s.in_size)
    }

    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        let (xs, dys) = (xs.detach(), dys.detach().contiguous()?);
        let windows = matrices(&unfold(&xs, &s.geometry())?, s.groups)?.transpose(2, 3)?.contiguous()?;
        let dys = dys.reshape((s.batch, s.groups, s.out_channels / s.groups, s.out_size.0 * s.out_size.1))?;
        dys.matmul(&windows)?.sum(0)?.reshape(s.weight_dims().as_slice())
    }
}
