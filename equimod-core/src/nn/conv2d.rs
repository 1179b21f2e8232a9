//! Two-dimensional convolution without bias.

use std::sync::Arc;

use candle_core::{Tensor, Var};

use crate::Result;
use crate::kernels::{self, Beside, Conv2dGeometry, Input};
use crate::params::{Gradients, Init, Role, Scope};

/// Shape of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Whether [Winograd's algorithm](crate::Execution::winograd) may be used.
    pub winograd: bool,
    /// Initial weights.
    pub init: Init,
}

/// A convolution: xs `[batch, in, height, width]` → `[batch, out, height', width']`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    name: Arc<str>,
    weight: Var,
    geometry: Conv2dGeometry,
}

impl Conv2d {
    /// Creates `weight` of shape `[out, in / groups, kernel, kernel]` under `scope`.
    pub fn new(config: &Conv2dConfig, scope: &mut Scope) -> Result<Self> {
        let &Conv2dConfig { in_channels, out_channels, kernel, stride, padding, groups, winograd, init } = config;
        let shape = (out_channels, in_channels / groups, kernel, kernel);
        let weight = scope.parameter("weight", shape, init, Role::Weight)?;
        let geometry = Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups, winograd };
        Ok(Self { name: scope.full("weight").into(), weight, geometry })
    }

    /// Applies the convolution. What its way back needs beside the gradient of the output is `xs`.
    pub fn forward(&self, xs: impl Into<Input>) -> Result<Tensor> {
        Ok(kernels::conv2d(xs, self.weight.as_tensor(), &self.geometry)?)
    }

    /// [`forward`](Self::forward), and the sums of the output that a batch norm behind it asks for in training.
    pub fn forward_with_sums(&self, xs: impl Into<Input>) -> Result<(Tensor, Tensor)> {
        Ok(kernels::conv2d_with_sums(xs, self.weight.as_tensor(), &self.geometry)?)
    }

    /// Records the weight's gradient and returns that of the input.
    pub fn backward(&self, xs: Input, dys: &Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let (_, _, height, width) = xs.values.dims4()?;
        self.backward_weight(xs, dys, gradients)?;
        Ok(kernels::conv2d_backward_data(dys, self.weight.as_tensor(), &self.geometry, (height, width))?)
    }

    /// [`backward`](Self::backward) where `xs` is the output of a ReLU, and on [through it](kernels::conv2d_backward_data_before_relu).
    pub fn backward_before_relu(
        &self,
        xs: &Tensor,
        dys: &Tensor,
        beside: Beside,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        self.backward_weight(xs, dys, gradients)?;
        Ok(kernels::conv2d_backward_data_before_relu(dys, self.weight.as_tensor(), &self.geometry, beside, xs)?)
    }

    /// Records the weight's gradient alone: for the first layer, whose input needs none.
    pub fn backward_weight(&self, xs: impl Into<Input>, dys: &Tensor, gradients: &mut Gradients) -> Result<()> {
        gradients.insert(&self.name, kernels::conv2d_backward_weight(xs, dys, &self.geometry)?)
    }
}
