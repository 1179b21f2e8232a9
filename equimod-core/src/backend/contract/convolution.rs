//! Convolution, forward and backward, alone and fused with what surrounds it in a residual block.

use candle_core::{Result, Tensor};

use super::batch_norm::{BatchNormOps, ScaleShiftRelu};
use super::shapes::ConvShape;

/// Input of a convolution, `[N, C, H, W]`: a tensor, or a batch norm and ReLU of it that need not be held in memory.
#[derive(Clone, Debug)]
pub struct ConvInput {
    /// The tensor, before the activation.
    pub values: Tensor,
    /// Batch norm and ReLU through which the convolution reads the tensor.
    pub activation: Option<ScaleShiftRelu>,
}

impl From<Tensor> for ConvInput {
    fn from(values: Tensor) -> Self {
        Self { values, activation: None }
    }
}

impl From<&Tensor> for ConvInput {
    fn from(values: &Tensor) -> Self {
        values.clone().into()
    }
}

impl From<&Self> for ConvInput {
    fn from(input: &Self) -> Self {
        input.clone()
    }
}

/// The order in which the gradient of a ReLU's output is added to that of another path, and masked by the ReLU.
///
/// `T` is the gradient that is already there, whose memory may be used for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate<T = Tensor> {
    /// There is no other gradient: `dx·mask`.
    Overwrite,
    /// The other gradient is that of the ReLU's output: `(dx + other)·mask`.
    AddThenMask(T),
    /// The other gradient is that of the ReLU's input, and so 0 where the mask is: `dx·mask + other`.
    MaskThenAdd(T),
}

impl<T> Accumulate<T> {
    /// The gradient that is already there.
    pub fn existing(&self) -> Option<&T> {
        match self {
            Self::Overwrite => None,
            Self::AddThenMask(other) | Self::MaskThenAdd(other) => Some(other),
        }
    }

    /// The same without that gradient.
    pub fn order(&self) -> Accumulate<()> {
        match self {
            Self::Overwrite => Accumulate::Overwrite,
            Self::AddThenMask(_) => Accumulate::AddThenMask(()),
            Self::MaskThenAdd(_) => Accumulate::MaskThenAdd(()),
        }
    }
}

impl Accumulate {
    /// The gradient of a ReLU's input, where `dxs` arrived at its output `relu_output`; all of one shape.
    pub fn through_relu(
        self,
        backend: &(impl BatchNormOps + ?Sized),
        dxs: Tensor,
        relu_output: &Tensor,
    ) -> Result<Tensor> {
        match self {
            Self::Overwrite => backend.relu_backward_in_place(dxs, None, relu_output),
            Self::AddThenMask(other) => backend.relu_backward_in_place(dxs, Some(&other), relu_output),
            Self::MaskThenAdd(other) => backend.relu_backward_in_place(dxs, None, relu_output)? + other,
        }
    }
}

/// Two-dimensional convolution; the weight is `[O, C/groups, kh, kw]` in every method.
pub trait ConvolutionOps: BatchNormOps {
    /// xs `[N, C, H, W]` → `[N, O, H', W']`.
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor>;

    /// Gradient of the input: dys `[N, O, H', W']` → `[N, C, H, W]`.
    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor>;

    /// Gradient of the weight: xs `[N, C, H, W]`, dys `[N, O, H', W']` → `[O, C/groups, kh, kw]`.
    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor>;

    /// The tensor that a convolution reads, `[N, C, H, W]`.
    fn materialize(&self, xs: &ConvInput) -> Result<Tensor> {
        match &xs.activation {
            Some(activation) => self.scale_shift_relu(&xs.values, activation),
            None => Ok(xs.values.clone()),
        }
    }

    /// [`conv2d`](Self::conv2d) of an input with its activation.
    fn conv2d_of_activated(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.conv2d(&self.materialize(xs)?, weight, s)
    }

    /// [`conv2d_of_activated`](Self::conv2d_of_activated), and the [sums](BatchNormOps::batch_norm_sums) of its output.
    fn conv2d_with_sums(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<(Tensor, Tensor)> {
        let ys = self.conv2d_of_activated(xs, weight, s)?;
        let sums = self.batch_norm_sums(&ys)?;
        Ok((ys, sums))
    }

    /// [`conv2d_backward_weight`](Self::conv2d_backward_weight) for an input with its activation.
    fn conv2d_backward_weight_of_activated(&self, xs: &ConvInput, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.conv2d_backward_weight(&self.materialize(xs)?, dys, s)
    }

    /// [`conv2d_backward_data`](Self::conv2d_backward_data) and the backward pass of the ReLU whose output
    /// `relu_output` `[N, C, H, W]` was the convolution's input.
    fn conv2d_backward_data_relu(
        &self,
        dys: &Tensor,
        weight: &Tensor,
        s: &ConvShape,
        relu_output: &Tensor,
        accumulate: Accumulate,
    ) -> Result<Tensor> {
        accumulate.through_relu(self, self.conv2d_backward_data(dys, weight, s)?, relu_output)
    }
}
