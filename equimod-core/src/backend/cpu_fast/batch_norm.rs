//! Batch norm of tensors by the kernels over rows.

use candle_core::{Device, Result, Tensor};
use pulp::Arch;

use super::CpuFast;
use super::kernels::{ScaleShiftReluRows, batch_norm as kernels};
use super::layout::{changed_in_place, from_rows, rows};
use crate::backend::contract::{BatchNormOps, ScaleShiftRelu};
use crate::backend::cpu::{Values, plain};

/// Calls `f` with an activation as slices.
pub fn with_activation<T>(
    activation: Option<&ScaleShiftRelu>,
    f: impl FnOnce(Option<ScaleShiftReluRows>) -> Result<T>,
) -> Result<T> {
    let Some(ScaleShiftRelu { scale, shift }) = activation else { return f(None) };
    let (scale, shift) = (plain(scale)?, plain(shift)?);
    let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
    f(Some(ScaleShiftReluRows { scale: scale.get()?, shift: shift.get()? }))
}

/// Calls `f` with an optional tensor in rows of channels.
fn with_rows<T>(tensor: Option<&Tensor>, f: impl FnOnce(Option<&[f32]>) -> Result<T>) -> Result<T> {
    let tensor = tensor.map(rows).transpose()?;
    let values = tensor.as_ref().map(Values::of).transpose()?;
    f(values.as_ref().map(Values::get).transpose()?)
}

/// Calls `f` with per-channel coefficients as slices.
fn with_coefficients<T>(coefficients: [&Tensor; 3], f: impl FnOnce([&[f32]; 3]) -> Result<T>) -> Result<T> {
    let [a, b, c] = coefficients.map(plain);
    let (a, b, c) = (a?, b?, c?);
    let (a, b, c) = (Values::of(&a)?, Values::of(&b)?, Values::of(&c)?);
    f([a.get()?, b.get()?, c.get()?])
}

impl BatchNormOps for CpuFast {
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor> {
        let channels = xs.dim(1)?;
        let sums = kernels::sums(Arch::new(), Values::of(&rows(xs)?)?.get()?, channels);
        Tensor::from_vec(sums, (2, channels), &Device::Cpu)
    }

    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let (values, scale, shift) = (rows(xs)?, plain(scale)?, plain(shift)?);
        let (values, scale, shift) = (Values::of(&values)?, Values::of(&scale)?, Values::of(&shift)?);
        let (scale, shift) = (scale.get()?, shift.get()?);
        let apply =
            |residual: Option<&[f32]>| Ok(kernels::apply(Arch::new(), values.get()?, scale, shift, residual, relu));
        from_rows(with_rows(residual, apply)?, xs.dims())
    }

    fn batch_norm_apply_in_place(
        &self,
        xs: Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let (scale, shift) = (plain(scale)?, plain(shift)?);
        let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
        let (scale, shift) = (scale.get()?, shift.get()?);
        with_rows(residual, |residual| {
            changed_in_place(&xs, |xs| kernels::apply_in_place(Arch::new(), xs, scale, shift, residual, relu))
        })
    }

    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        self.activated_backward_sums(dys, None, xs, mean, inverse_std)
    }

    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor> {
        self.activated_backward(dys, None, xs, coefficients)
    }

    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        self.relu_backward_in_place(dys.copy()?, more, ys)
    }

    fn relu_backward_in_place(&self, dys: Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        let ys = rows(ys)?;
        let ys = Values::of(&ys)?;
        let ys = ys.get()?;
        with_rows(more, |more| changed_in_place(&dys, |dys| kernels::relu_backward(Arch::new(), dys, more, ys)))
    }

    fn activated_backward_sums(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        let channels = xs.dim(1)?;
        let (dys, xs, mean, inverse) = (rows(dys)?, rows(xs)?, plain(mean)?, plain(inverse_std)?);
        let (dys, xs, mean, inverse) = (Values::of(&dys)?, Values::of(&xs)?, Values::of(&mean)?, Values::of(&inverse)?);
        let scales = (mean.get()?, inverse.get()?);
        let sums = with_activation(activation, |activation| {
            Ok(kernels::backward_sums(Arch::new(), dys.get()?, activation, xs.get()?, scales))
        })?;
        Tensor::from_vec(sums, (2, channels), &Device::Cpu)
    }

    fn activated_backward(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        coefficients: [&Tensor; 3],
    ) -> Result<Tensor> {
        let (dys, values) = (rows(dys)?, rows(xs)?);
        let (dys, values) = (Values::of(&dys)?, Values::of(&values)?);
        let dxs = with_coefficients(coefficients, |coefficients| {
            with_activation(activation, |activation| {
                Ok(kernels::backward(Arch::new(), dys.get()?, activation, values.get()?, coefficients))
            })
        })?;
        from_rows(dxs, xs.dims())
    }

    fn activated_backward_in_place(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: Tensor,
        coefficients: [&Tensor; 3],
    ) -> Result<Tensor> {
        let dys = rows(dys)?;
        let dys = Values::of(&dys)?;
        let dys = dys.get()?;
        with_coefficients(coefficients, |coefficients| {
            with_activation(activation, |activation| {
                changed_in_place(&xs, |xs| {
                    kernels::backward_in_place(Arch::new(), dys, activation, xs, coefficients);
                })
            })
        })
    }
}
