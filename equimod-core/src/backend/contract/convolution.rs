//! Forward and backward pass of convolutions, alone and fused with the operations around them in a residual block.

use candle_core::{DType, Result, Tensor};

use super::batch_norm::{BatchNormOps, ScaleShiftRelu};
use super::shapes::ConvShape;

/// Input of a convolution, `[N, C, H, W]`: a tensor, optionally with a batch norm and ReLU that need not be
/// materialized.
#[derive(Clone, Debug)]
pub struct ConvInput {
    /// Values before the activation.
    pub values: Tensor,
    /// Batch norm and ReLU that are applied to the values as the convolution reads them.
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

/// Combination of the gradient of a ReLU's output with the gradient from another path, and the ReLU's mask.
///
/// `T` is the existing gradient of the other path, whose memory the result may overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accumulate<T = Tensor> {
    /// No other gradient: `dx·mask`.
    Overwrite,
    /// Another gradient of the ReLU's output: `(dx + other)·mask`.
    AddThenMask(T),
    /// Another gradient of the ReLU's input, which is already masked: `dx·mask + other`.
    MaskThenAdd(T),
}

impl<T> Accumulate<T> {
    /// The existing gradient, if any.
    pub fn existing(&self) -> Option<&T> {
        match self {
            Self::Overwrite => None,
            Self::AddThenMask(other) | Self::MaskThenAdd(other) => Some(other),
        }
    }

    /// The same variant without the existing gradient.
    pub fn order(&self) -> Accumulate<()> {
        match self {
            Self::Overwrite => Accumulate::Overwrite,
            Self::AddThenMask(_) => Accumulate::AddThenMask(()),
            Self::MaskThenAdd(_) => Accumulate::MaskThenAdd(()),
        }
    }
}

impl Accumulate {
    /// Gradient of a ReLU's input from the gradient `dxs` of its output `relu_output`, all of the same shape.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
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

/// Two-dimensional convolution. The weight is `[O, C/groups, kh, kw]` in all methods, and all shapes fit `s`. With bf16
/// activations, the weight may be f32, which the backend rounds, and gradients of weights are f32.
pub trait ConvolutionOps: BatchNormOps {
    /// Convolution of xs `[N, C, H, W]` → `[N, O, H', W']`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor>;

    /// Gradient of the input: dys `[N, O, H', W']` → `[N, C, H, W]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor>;

    /// Gradient of the weight: xs `[N, C, H, W]`, dys `[N, O, H', W']` → `[O, C/groups, kh, kw]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor>;

    /// A weight as these methods read it with the least work for images of type `dtype`: of the same shape, in any
    /// layout, and with the same results. By default, it is the weight itself.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn prepared_weight(&self, weight: &Tensor, _dtype: DType) -> Result<Tensor> {
        Ok(weight.clone())
    }

    /// The tensor that a convolution reads, `[N, C, H, W]`, with its activation applied.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn materialize(&self, xs: &ConvInput) -> Result<Tensor> {
        match &xs.activation {
            Some(activation) => self.scale_shift_relu(&xs.values, activation),
            None => Ok(xs.values.clone()),
        }
    }

    /// [`conv2d`](Self::conv2d) of an input with its activation.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn conv2d_of_activated(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.conv2d(&self.materialize(xs)?, weight, s)
    }

    /// [`conv2d_of_activated`](Self::conv2d_of_activated), and the [sums](BatchNormOps::batch_norm_sums) of its output,
    /// `[2, O]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn conv2d_with_sums(&self, xs: &ConvInput, weight: &Tensor, s: &ConvShape) -> Result<(Tensor, Tensor)> {
        let ys = self.conv2d_of_activated(xs, weight, s)?;
        let sums = self.batch_norm_sums(&ys)?;
        Ok((ys, sums))
    }

    /// [`conv2d_backward_weight`](Self::conv2d_backward_weight) for an input with its activation.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn conv2d_backward_weight_of_activated(&self, xs: &ConvInput, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.conv2d_backward_weight(&self.materialize(xs)?, dys, s)
    }

    /// [`conv2d_backward_data`](Self::conv2d_backward_data) followed by the backward pass of the ReLU whose output
    /// `relu_output` `[N, C, H, W]` was the convolution's input.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
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
