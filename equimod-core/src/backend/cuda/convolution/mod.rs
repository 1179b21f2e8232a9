//! Convolutions over channels-last images: by cuDNN with the feature `cudnn`, else as matrix products. Tests run both.

#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(any(test, not(feature = "cudnn")))]
mod products;

use candle_core::{DType, Result, Tensor};

use super::Cuda;
use super::batch_norm::through_relu;
use super::launch::{Grid, Kernel, Module, launch};
use super::memory::{address, channels_second, count, device_of, rows, uninitialized};
use crate::backend::contract::{Accumulate, BatchNormOps, ConvInput, ConvShape, ConvolutionOps, ScaleShiftRelu};
use crate::backend::layout;

const fn kernel(name: &'static str, suffix: &'static str) -> Kernel {
    Kernel { module: Module::Convolution, name, suffix }
}

/// `[out, a, b]` → `[out, b, a]`, converted to `dtype`.
fn transposed(values: &Tensor, (out, a, b): (usize, usize, usize), dtype: DType) -> Result<Tensor> {
    let values = values.detach().contiguous()?;
    let result = uninitialized(&[out, b, a], dtype, values.device())?;
    let suffix = match (values.dtype(), dtype) {
        (DType::F32, DType::F32) => "_f32_f32",
        (DType::F32, DType::BF16) => "_f32_bf16",
        (DType::BF16, DType::F32) => "_bf16_f32",
        (DType::BF16, DType::BF16) => "_bf16_bf16",
        (from, to) => candle_core::bail!("there is no CUDA kernel for weights of {from:?} with images of {to:?}"),
    };
    let grid = Grid::strided(values.elem_count(), 1024);
    let (from, to, out, a, b) = (address(&values)?, address(&result)?, count(out)?, count(a)?, count(b)?);
    launch!(device_of(&values)?, kernel("transpose", suffix), grid, from, to, out, a, b)?;
    Ok(result)
}

/// A weight `[O, C/groups, kh, kw]` with channels last, `[O, kh·kw, C/groups]`, of type `dtype`. A prepared weight is
/// used as it is.
fn channels_last(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    let (outputs, channels, height, width) = weight.dims4()?;
    let view = layout::channels_last(&weight.detach())?;
    match view.is_contiguous() {
        true => view.to_dtype(dtype)?.reshape((outputs, height * width, channels)),
        false => transposed(weight, (outputs, channels, height * width), dtype),
    }
}

/// A weight's gradient with channels last as `[O, C/groups, kh, kw]`, f32.
fn channels_first(gradient: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (channels, window) = (s.in_channels / s.groups, s.kernel.0 * s.kernel.1);
    let gradient = match window {
        1 => gradient.to_dtype(DType::F32)?,
        _ => transposed(gradient, (s.out_channels, window, channels), DType::F32)?,
    };
    gradient.reshape(s.weight_dims().as_slice())
}

#[cfg(test)]
thread_local! {
    /// Whether convolutions of this thread are matrix products although the build has cuDNN.
    pub static WITHOUT_CUDNN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// One of a convolution's computations, on rows of channels.
type Computation = fn(&Tensor, &Tensor, &ConvShape) -> Result<Tensor>;

/// Which plans of fused convolutions may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plans {
    /// Those of shapes that this thread has planned.
    Known,
    /// Also new ones, which take seconds to compile.
    New,
}

/// Output and its sums from xs and their activation; `None` for a shape that is not fused.
type FusedForward =
    fn(&Tensor, Option<&ScaleShiftRelu>, &Tensor, &ConvShape, Plans) -> Result<Option<(Tensor, Tensor)>>;

/// Gradient of the input of a ReLU with the given output before a convolution; `None` for a shape that is not fused.
type FusedBackward = fn(&Tensor, &Tensor, &Tensor, &Accumulate, &ConvShape) -> Result<Option<Tensor>>;

/// The three computations of a convolution, and those that are fused with their neighbors.
struct Engine {
    forward: Computation,
    backward_data: Computation,
    backward_weight: Computation,
    forward_with_sums: FusedForward,
    backward_data_relu: FusedBackward,
}

#[cfg(feature = "cudnn")]
const CUDNN: Engine = Engine {
    forward: cudnn::forward,
    backward_data: cudnn::backward_data,
    backward_weight: cudnn::backward_weight,
    forward_with_sums: cudnn::forward_with_sums,
    backward_data_relu: cudnn::backward_data_relu,
};

#[cfg(any(test, not(feature = "cudnn")))]
const PRODUCTS: Engine = Engine {
    forward: products::forward,
    backward_data: products::backward_data,
    backward_weight: products::backward_weight,
    forward_with_sums: |_, _, _, _, _| Ok(None),
    backward_data_relu: |_, _, _, _, _| Ok(None),
};

/// cuDNN if the build has it, else matrix products.
fn engine() -> &'static Engine {
    #[cfg(test)]
    if WITHOUT_CUDNN.get() {
        return &PRODUCTS;
    }
    #[cfg(feature = "cudnn")]
    return &CUDNN;
    #[cfg(not(feature = "cudnn"))]
    return &PRODUCTS;
}

/// A convolution that is fused with its activation and the sums of its output.
fn fused_with_sums(xs: &ConvInput, weight: &Tensor, s: &ConvShape, plans: Plans) -> Result<Option<(Tensor, Tensor)>> {
    let (values, weight) = (rows(&xs.values)?, channels_last(weight, xs.values.dtype())?);
    let found = (engine().forward_with_sums)(&values, xs.activation.as_ref(), &weight, s, plans)?;
    found.map(|(ys, sums)| Ok((channels_second(&ys)?, sums))).transpose()
}

impl ConvolutionOps for Cuda {
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        let (xs, weight) = (rows(xs)?, channels_last(weight, xs.dtype())?);
        channels_second(&(engine().forward)(&xs, &weight, s)?)
    }

    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        let (dys, weight) = (rows(dys)?, channels_last(weight, dys.dtype())?);
        channels_second(&(engine().backward_data)(&dys, &weight, s)?)
    }

    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        channels_first(&(engine().backward_weight)(&rows(xs)?, &rows(dys)?, s)?, s)
    }

    /// As [`conv2d_with_sums`](Self::conv2d_with_sums) after it, so that recomputed outputs are the same bits.
    fn conv2d_of_activated(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        match fused_with_sums(xs, weight, s, Plans::Known)? {
            Some((ys, _)) => Ok(ys),
            None => self.conv2d(&self.materialize(xs)?, weight, s),
        }
    }

    fn conv2d_with_sums(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<(Tensor, Tensor)> {
        if let Some(found) = fused_with_sums(xs, weight, s, Plans::New)? {
            return Ok(found);
        }
        let ys = self.conv2d(&self.materialize(xs)?, weight, s)?;
        let sums = self.batch_norm_sums(&ys)?;
        Ok((ys, sums))
    }

    fn prepared_weight(&self, weight: &Tensor, dtype: DType) -> Result<Tensor> {
        let (outputs, channels, height, width) = weight.dims4()?;
        channels_second(&channels_last(weight, dtype)?.reshape((outputs, height, width, channels))?)
    }

    fn conv2d_backward_data_relu(
        &self,
        dys: &Tensor,
        weight: &Tensor,
        s: &ConvShape,
        relu_output: &Tensor,
        accumulate: Accumulate,
    ) -> Result<Tensor> {
        let (dys, weight, relu_output) = (rows(dys)?, channels_last(weight, dys.dtype())?, rows(relu_output)?);
        if let Some(dxs) = (engine().backward_data_relu)(&dys, &weight, &relu_output, &accumulate, s)? {
            return channels_second(&dxs);
        }
        let dxs = (engine().backward_data)(&dys, &weight, s)?;
        let order = match &accumulate {
            Accumulate::Overwrite => 0,
            Accumulate::AddThenMask(_) => 1,
            Accumulate::MaskThenAdd(_) => 2,
        };
        let other = accumulate.existing().map(rows).transpose()?;
        through_relu(&dxs, other.as_ref(), &relu_output, order)?;
        channels_second(&dxs)
    }
}
