//! Batch norm of tensors by the kernels over planes.

use candle_core::{Device, Result, Tensor, bail};

use super::CpuPortable;
use super::kernels::batch_norm::{self as kernels, Planes};
use crate::backend::contract::BatchNormOps;
use crate::backend::cpu::{Values, plain};

/// Batch size, channels and the product of the other dimensions of `[N, C, …]`.
fn planes(xs: &Tensor) -> Result<Planes> {
    match xs.dims() {
        [batch, channels, rest @ ..] => Ok(Planes { batch: *batch, channels: *channels, area: rest.iter().product() }),
        dims => bail!("batch norm needs a batch and channels, got {dims:?}"),
    }
}

/// Calls `f` with an optional tensor as a slice.
fn with_values<T>(tensor: Option<&Tensor>, f: impl FnOnce(Option<&[f64]>) -> Result<T>) -> Result<T> {
    let tensor = tensor.map(plain).transpose()?;
    let values = tensor.as_ref().map(Values::of).transpose()?;
    f(values.as_ref().map(Values::get).transpose()?)
}

impl BatchNormOps for CpuPortable {
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor> {
        let p = planes(xs)?;
        let sums = kernels::sums::<f64>(Values::of(&plain(xs)?)?.get()?, p);
        Tensor::from_vec(sums, (2, p.channels), &Device::Cpu)
    }

    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let (values, scale, shift) = (plain(xs)?, plain(scale)?, plain(shift)?);
        let (values, scale, shift) = (Values::of(&values)?, Values::of(&scale)?, Values::of(&shift)?);
        let (p, mut ys) = (planes(xs)?, vec![0f64; xs.elem_count()]);
        with_values(residual, |residual| {
            kernels::apply(values.get()?, scale.get()?, shift.get()?, residual, relu, p, &mut ys);
            Ok(())
        })?;
        Tensor::from_vec(ys, xs.shape(), &Device::Cpu)
    }

    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        let p = planes(xs)?;
        let (dys, xs, mean, inverse) = (plain(dys)?, plain(xs)?, plain(mean)?, plain(inverse_std)?);
        let (dys, xs, mean, inverse) = (Values::of(&dys)?, Values::of(&xs)?, Values::of(&mean)?, Values::of(&inverse)?);
        let sums = kernels::backward_sums::<f64>(dys.get()?, xs.get()?, mean.get()?, inverse.get()?, p);
        Tensor::from_vec(sums, (2, p.channels), &Device::Cpu)
    }

    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor> {
        let [scale, slope, offset] = coefficients.map(plain);
        let (scale, slope, offset) = (scale?, slope?, offset?);
        let (scale, slope, offset) = (Values::of(&scale)?, Values::of(&slope)?, Values::of(&offset)?);
        let (dys, values) = (plain(dys)?, plain(xs)?);
        let (dys, values) = (Values::of(&dys)?, Values::of(&values)?);
        let coefficients = [scale.get()?, slope.get()?, offset.get()?];
        let mut dxs = vec![0f64; xs.elem_count()];
        kernels::backward(dys.get()?, values.get()?, coefficients, planes(xs)?, &mut dxs);
        Tensor::from_vec(dxs, xs.shape(), &Device::Cpu)
    }

    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        let (values, ys) = (plain(dys)?, plain(ys)?);
        let (values, ys) = (Values::of(&values)?, Values::of(&ys)?);
        let mut dxs = vec![0f64; dys.elem_count()];
        with_values(more, |more| {
            kernels::relu_backward(values.get()?, more, ys.get()?, &mut dxs);
            Ok(())
        })?;
        Tensor::from_vec(dxs, dys.shape(), &Device::Cpu)
    }
}
