//! Two-dimensional convolution without bias.

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use crate::Result;
use crate::ops::{self, Accumulate, Conv2dGeometry, ConvAlgorithms, ConvInput};
use crate::params::{GradientSink, Init, Role, Scope};

/// Settings of a [`Conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct Conv2dConfig {
    /// Number of input channels.
    pub in_channels: usize,
    /// Number of output channels.
    pub out_channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Stride along height and width.
    pub stride: usize,
    /// Zero padding on each side, in pixels.
    pub padding: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Algorithms that may be used.
    pub algorithms: ConvAlgorithms,
    /// Initialization of the weight.
    pub init: Init,
}

/// Two-dimensional convolution without bias: `[N, C, H, W]` → `[N, O, H', W']`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    name: Arc<str>,
    weight: Var,
    geometry: Conv2dGeometry,
}

impl Conv2d {
    /// Creates `weight` `[out, in / groups, kernel, kernel]` under `scope`.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(config: &Conv2dConfig, scope: &mut Scope) -> Result<Self> {
        let &Conv2dConfig { in_channels, out_channels, kernel, stride, padding, groups, algorithms, init } = config;
        let shape = (out_channels, in_channels / groups, kernel, kernel);
        let weight = scope.parameter("weight", shape, init, Role::Weight)?;
        let geometry = Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups, algorithms };
        Ok(Self { name: scope.full("weight").into(), weight, geometry })
    }

    /// The weight as the other methods take it, for images of type `dtype`. It holds until the layer's weight changes,
    /// so a step prepares it once for the forward and the backward pass.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn prepared_weight(&self, dtype: DType) -> Result<Tensor> {
        Ok(ops::prepared_weight(&self.weight.as_detached_tensor(), dtype)?)
    }

    /// xs `[N, C, H, W]` → its convolution `[N, O, H', W']` with the [prepared](Self::prepared_weight) `weight`. The
    /// backward pass needs `xs`, `weight` and the gradient of the output.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    pub fn forward(&self, xs: impl Into<ConvInput>, weight: &Tensor) -> Result<Tensor> {
        Ok(ops::conv2d(xs, weight, &self.geometry)?)
    }

    /// [`forward`](Self::forward), and the [sums](ops::batch_norm_sums) of its output, `[2, O]`.
    ///
    /// # Errors
    ///
    /// Those of `forward`.
    pub fn forward_with_sums(&self, xs: impl Into<ConvInput>, weight: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(ops::conv2d_with_sums(xs, weight, &self.geometry)?)
    }

    /// Adds the weight's gradient to `gradients` and returns that of the input, `[N, C, H, W]`, from the gradient of
    /// the output, `dys` `[N, O, H', W']`, and the [prepared](Self::prepared_weight) `weight`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    pub fn backward(
        &self,
        xs: ConvInput,
        weight: &Tensor,
        dys: &Tensor,
        gradients: &mut dyn GradientSink,
    ) -> Result<Tensor> {
        let (_, _, height, width) = xs.values.dims4()?;
        self.backward_weight(xs, dys, gradients)?;
        Ok(ops::conv2d_backward_data(dys, weight, &self.geometry, (height, width))?)
    }

    /// [`backward`](Self::backward) for an input that is the output of a ReLU, including [the backward pass of that
    /// ReLU](ops::conv2d_backward_data_relu).
    ///
    /// # Errors
    ///
    /// Those of `backward`.
    pub fn backward_relu(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        dys: &Tensor,
        accumulate: Accumulate,
        gradients: &mut dyn GradientSink,
    ) -> Result<Tensor> {
        self.backward_weight(xs, dys, gradients)?;
        Ok(ops::conv2d_backward_data_relu(dys, weight, &self.geometry, xs, accumulate)?)
    }

    /// Adds the weight's gradient to `gradients`, without computing that of the input. Used for the first layer.
    ///
    /// # Errors
    ///
    /// Those of `backward`.
    pub fn backward_weight(
        &self,
        xs: impl Into<ConvInput>,
        dys: &Tensor,
        gradients: &mut dyn GradientSink,
    ) -> Result<()> {
        let gradient = ops::conv2d_backward_weight(xs, dys, &self.geometry)?;
        gradients.insert(&self.name, gradient.to_dtype(self.weight.dtype())?)
    }
}
