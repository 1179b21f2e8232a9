//! Forward and backward pass of the stem.

use candle_core::Tensor;

use super::config::{ResNetConfig, Stem};
use super::layers::{ConvNorm, LayerContext, SavedConvNorm, SavedSegment, Segment, Shape, too_little};
use crate::Result;
use crate::nn::Epilogue;
use crate::ops::{self, ConvInput, MaxPoolWinners};
use crate::params::{GradientSink, Init, Scope};

/// Kernel, stride and padding of the stem's max-pool.
const POOL: (usize, usize, usize) = (3, 2, 1);

/// The first convolutions, and the max-pool that follows them in most stems.
#[derive(Clone)]
pub struct StemLayers {
    pub layers: Vec<ConvNorm>,
    /// Whether a ReLU follows the last layer; one always follows the others.
    pub relu: bool,
    pub pool: bool,
}

impl StemLayers {
    /// Builds the stem under torchvision's names `conv1` and `bn1`, or a deep stem under timm's names `conv1.0`,
    /// `conv1.1`, `conv1.3`, `conv1.4`, `conv1.6` and `bn1`.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(config: &ResNetConfig, context: LayerContext, scope: &mut Scope) -> Result<Self> {
        // The CIFAR stem has PyTorch's default initialization, because the reference replaces torchvision's first layer
        // after torchvision has initialized the network.
        let init = match config.stem {
            Stem::Cifar => Init::KaimingUniformFanIn,
            Stem::ImageNet | Stem::Deep => Init::KaimingNormalFanOut,
        };
        let names: &[(&str, &str)] = match config.stem {
            Stem::Cifar | Stem::ImageNet => &[("conv1", "bn1")],
            Stem::Deep => &[("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")],
        };
        let mut layers = Vec::with_capacity(names.len());
        for (conv, names) in config.stem_convolutions().iter().zip(names) {
            let shape = Shape {
                in_channels: conv.inputs,
                out_channels: conv.outputs,
                kernel: config.stem.kernel(),
                stride: conv.stride,
                padding: conv.padding,
                groups: 1,
                init: (init, 1.0),
            };
            layers.push(ConvNorm::new(&shape, *names, context, scope)?);
        }
        Ok(Self { layers, relu: config.stem_relu, pool: config.pools() })
    }

    /// Whether all activations can be recomputed from the input and the statistics. The exception is a max-pool that
    /// follows a batch norm without ReLU.
    pub fn can_be_recomputed(&self) -> bool {
        self.relu || !self.pool
    }

    /// Gradients of the stem's parameters from `dys` `[N, C, H, W]`, the gradient of its output before the ReLU, if
    /// there is one. The gradient of the images is not computed.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    pub fn backward(
        &self,
        saved: SavedSegment<Option<MaxPoolWinners>>,
        dys: Tensor,
        gradients: &mut dyn GradientSink,
    ) -> Result<()> {
        let (mut layers, pooled) = self.activations(saved)?;
        let mut dys = match pooled {
            Some(winners) => ops::max_pool2d_backward(&dys, &winners)?,
            None => dys,
        };
        let (first, others) = self.layers.split_first().ok_or_else(too_little)?;
        for layer in others.iter().rev() {
            dys = layer.backward(layers.pop().ok_or_else(too_little)?, &dys, gradients)?;
        }
        let SavedConvNorm { xs, norm, .. } = layers.pop().ok_or_else(too_little)?;
        let dys = first.norm.backward(norm, &dys, gradients)?;
        first.conv.backward_weight(xs, &dys, gradients)
    }
}

impl Segment for StemLayers {
    type Extra = Option<MaxPoolWinners>;

    fn pass<S>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &ConvInput, Epilogue) -> Result<(ConvInput, S)>,
    ) -> Result<(Tensor, Vec<S>, Option<MaxPoolWinners>)> {
        let (mut ys, mut saved) = (ConvInput::from(xs), Vec::with_capacity(self.layers.len()));
        for (i, conv) in self.layers.iter().enumerate() {
            let epilogue = match (i + 1 == self.layers.len(), self.relu) {
                (false, _) => Epilogue::ReluIntoConvolution,
                (true, true) => Epilogue::Relu,
                (true, false) => Epilogue::Identity,
            };
            let (next, saved_layer) = layer(conv, &ys, epilogue)?;
            ys = next;
            saved.push(saved_layer);
        }
        let xs = ys.values;
        if !self.pool {
            return Ok((xs, saved, None));
        }
        let (ys, winners) = ops::max_pool2d(&xs, POOL.0, POOL.1, POOL.2)?;
        Ok((ys, saved, Some(winners)))
    }
}
