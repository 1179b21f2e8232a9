//! Convolution of tensors by the kernels over planes, in f32 and f64.

use candle_core::{Device, Result, Tensor};

use super::CpuPortable;
use super::kernels::im2col;
use crate::backend::contract::{ConvShape, ConvolutionOps};
use crate::backend::cpu::{Element, Values, plain};

impl ConvolutionOps for CpuPortable {
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        conv2d::<f64>(xs, weight, s)
    }

    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        conv2d_backward_data::<f64>(dys, weight, s)
    }

    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        conv2d_backward_weight::<f64>(xs, dys, s)
    }
}

/// [`ConvolutionOps::conv2d`] for tensors of type `T`.
///
/// # Errors
///
/// If a tensor is not on the CPU or not of type `T`.
pub fn conv2d<T: Element>(xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (xs, weight) = (plain(xs)?, plain(weight)?);
    let mut ys = vec![T::zero(); s.outputs()];
    im2col::forward(Values::of(&xs)?.get::<T>()?, Values::of(&weight)?.get()?, s, &mut ys);
    Tensor::from_vec(ys, s.out_dims().as_slice(), &Device::Cpu)
}

/// [`ConvolutionOps::conv2d_backward_data`] for tensors of type `T`.
///
/// # Errors
///
/// If a tensor is not on the CPU or not of type `T`.
pub fn conv2d_backward_data<T: Element>(dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (dys, weight) = (plain(dys)?, plain(weight)?);
    let mut dxs = vec![T::zero(); s.inputs()];
    im2col::backward_data(Values::of(&dys)?.get::<T>()?, Values::of(&weight)?.get()?, s, &mut dxs);
    Tensor::from_vec(dxs, s.in_dims().as_slice(), &Device::Cpu)
}

/// [`ConvolutionOps::conv2d_backward_weight`] for tensors of type `T`.
///
/// # Errors
///
/// If a tensor is not on the CPU or not of type `T`.
pub fn conv2d_backward_weight<T: Element>(xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (xs, dys) = (plain(xs)?, plain(dys)?);
    let dims = s.weight_dims();
    let mut dw = vec![T::zero(); dims.iter().product()];
    im2col::backward_weight(Values::of(&xs)?.get::<T>()?, Values::of(&dys)?.get()?, s, &mut dw);
    Tensor::from_vec(dw, dims.as_slice(), &Device::Cpu)
}
