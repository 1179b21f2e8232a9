//! Convolution of tensors by the kernels over rows.

use candle_core::{Device, Result, Tensor};
use pulp::Arch;

use super::CpuFast;
use super::batch_norm::with_activation;
use super::kernels::{self, Algorithm, ConvInputRows};
use super::layout::{changed_in_place, from_rows, rows};
use crate::backend::contract::{Accumulate, BatchNormOps, ConvInput, ConvShape, ConvolutionOps};
use crate::backend::cpu::{Values, plain};
use crate::backend::cpu_portable as portable;

impl ConvolutionOps for CpuFast {
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.conv2d_of_activated(&xs.into(), weight, s)
    }

    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        if s.groups > 1 {
            return portable::conv2d_backward_data::<f32>(dys, weight, s);
        }
        let (dys, weight) = (rows(dys)?, plain(weight)?);
        let (dys, weight) = (Values::of(&dys)?, Values::of(&weight)?);
        let values = [dys.get()?, weight.get()?];
        from_rows(kernels::conv2d_backward_data(Arch::new(), Algorithm::of(s), values, s, None), &s.in_dims())
    }

    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.conv2d_backward_weight_of_activated(&xs.into(), dys, s)
    }

    fn conv2d_of_activated(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        if s.groups > 1 {
            return portable::conv2d::<f32>(&self.materialize(xs)?, weight, s);
        }
        Ok(convolve(xs, weight, s, false)?.0)
    }

    fn conv2d_with_sums(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<(Tensor, Tensor)> {
        if s.groups == 1
            && let (ys, Some(sums)) = convolve(xs, weight, s, true)?
        {
            return Ok((ys, Tensor::from_vec(sums, (2, s.out_channels), &Device::Cpu)?));
        }
        let ys = self.conv2d_of_activated(xs, weight, s)?;
        let sums = self.batch_norm_sums(&ys)?;
        Ok((ys, sums))
    }

    fn conv2d_backward_weight_of_activated(&self, xs: &ConvInput, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        if s.groups > 1 {
            return portable::conv2d_backward_weight::<f32>(&self.materialize(xs)?, dys, s);
        }
        let dys = rows(dys)?;
        let dys = Values::of(&dys)?;
        let run =
            |xs: ConvInputRows| Ok(kernels::conv2d_backward_weight(Arch::new(), Algorithm::of(s), xs, dys.get()?, s));
        Tensor::from_vec(over_rows(xs, run)?, s.weight_dims().as_slice(), &Device::Cpu)
    }

    fn conv2d_backward_data_relu(
        &self,
        dys: &Tensor,
        weight: &Tensor,
        s: &ConvShape,
        relu_output: &Tensor,
        accumulate: Accumulate,
    ) -> Result<Tensor> {
        if s.groups > 1 {
            let dxs = portable::conv2d_backward_data::<f32>(dys, weight, s)?;
            return accumulate.through_relu(self, dxs, relu_output);
        }
        let (dys, weight, relu) = (rows(dys)?, plain(weight)?, rows(relu_output)?);
        let (dys, weight, relu) = (Values::of(&dys)?, Values::of(&weight)?, Values::of(&relu)?);
        let (arch, algorithm) = (Arch::new(), Algorithm::of(s));
        let (values, relu) = ([dys.get()?, weight.get()?], Some(relu.get()?));
        let Some(other) = accumulate.existing() else {
            let dxs = kernels::conv2d_backward_data(arch, algorithm, values, s, relu);
            return from_rows(dxs, &s.in_dims());
        };
        let order = accumulate.order();
        changed_in_place(other, |dxs| {
            kernels::conv2d_backward_data_onto(arch, algorithm, values, s, relu, (order, dxs));
        })
    }
}

fn convolve(xs: &ConvInput, weight: &Tensor, s: &ConvShape, sums: bool) -> Result<(Tensor, Option<Vec<f64>>)> {
    let weight = plain(weight)?;
    let weight = Values::of(&weight)?;
    let run = |xs: ConvInputRows| Ok(kernels::conv2d(Arch::new(), Algorithm::of(s), xs, weight.get()?, s, sums));
    let (ys, sums) = over_rows(xs, run)?;
    Ok((from_rows(ys, &s.out_dims())?, sums))
}

/// Calls `f` with an input in rows of channels.
fn over_rows<T>(xs: &ConvInput, f: impl FnOnce(ConvInputRows) -> Result<T>) -> Result<T> {
    let values = rows(&xs.values)?;
    let values = Values::of(&values)?;
    with_activation(xs.activation.as_ref(), |activation| f(ConvInputRows { values: values.get()?, activation }))
}
