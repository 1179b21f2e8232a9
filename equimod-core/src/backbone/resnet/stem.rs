//! The stem, forward and backward.

use candle_core::Tensor;

use super::config::{ResNetConfig, Stem};
use super::layers::{ConvNorm, ConvNormMemory, Memory, Part, Shape, Surroundings, too_little};
use crate::Result;
use crate::kernels::{self, Input};
use crate::nn::Then;
use crate::params::{Gradients, Init, Scope};

/// Window, stride and padding of the stem's max-pool.
const POOL: (usize, usize, usize) = (3, 2, 1);

/// The first convolutions, and the max-pool that most stems have behind them.
#[derive(Clone)]
pub struct StemLayers {
    pub layers: Vec<ConvNorm>,
    /// Whether a ReLU follows the last of them; one follows each other.
    pub relu: bool,
    pub pool: bool,
}

/// The places of a max-pool's maxima, in images of `size`.
pub struct Pooled {
    winners: Tensor,
    size: (usize, usize),
}

impl StemLayers {
    /// The layers of a network's stem: `conv1` and `bn1`; those of a deep stem as timm names them, `conv1.0`,
    /// `conv1.1`, `conv1.3`, `conv1.4`, `conv1.6` and `bn1`.
    pub fn new(config: &ResNetConfig, surroundings: Surroundings, scope: &mut Scope) -> Result<Self> {
        // The CIFAR stem keeps the default initialization of convolutions, because the reference replaces torchvision's
        // first layer after torchvision has initialized its own.
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
            layers.push(ConvNorm::new(&shape, *names, surroundings, scope)?);
        }
        Ok(Self { layers, relu: config.stem_relu, pool: config.pools() })
    }

    /// Whether all that its backward pass needs comes from its input and the statistics: not the maxima of what a
    /// batch norm without ReLU gave.
    pub fn can_be_recomputed(&self) -> bool {
        self.relu || !self.pool
    }

    /// From the gradient of the output before the ReLU, if there is one. The backward pass ends here: nothing needs the
    /// gradient of the images.
    pub fn backward(&self, memory: Memory<Option<Pooled>>, dys: Tensor, gradients: &mut Gradients) -> Result<()> {
        let (mut memories, pooled) = self.recall(memory)?;
        let mut dys = match pooled {
            Some(Pooled { winners, size }) => kernels::max_pool2d_backward(&dys, &winners, size)?,
            None => dys,
        };
        let (first, others) = self.layers.split_first().ok_or_else(too_little)?;
        for layer in others.iter().rev() {
            dys = layer.backward(memories.pop().ok_or_else(too_little)?, &dys, gradients)?;
        }
        let ConvNormMemory { xs, norm } = memories.pop().ok_or_else(too_little)?;
        let dys = first.norm.backward(norm, &dys, gradients)?;
        first.conv.backward_weight(xs, &dys, gradients)
    }
}

impl Part for StemLayers {
    type Extra = Option<Pooled>;

    fn pass<M>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &Input, Then) -> Result<(Input, M)>,
    ) -> Result<(Tensor, Vec<M>, Option<Pooled>)> {
        let (mut ys, mut memories) = (Input::from(xs), Vec::with_capacity(self.layers.len()));
        for (i, conv) in self.layers.iter().enumerate() {
            let then = match (i + 1 == self.layers.len(), self.relu) {
                (false, _) => Then::ReluAndConvolution,
                (true, true) => Then::Relu,
                (true, false) => Then::Nothing,
            };
            let (next, memory) = layer(conv, &ys, then)?;
            (ys, _) = (next, memories.push(memory));
        }
        let xs = ys.values;
        if !self.pool {
            return Ok((xs, memories, None));
        }
        let (_, _, height, width) = xs.dims4()?;
        let (ys, winners) = kernels::max_pool2d(&xs, POOL.0, POOL.1, POOL.2)?;
        Ok((ys, memories, Some(Pooled { winners, size: (height, width) })))
    }
}
