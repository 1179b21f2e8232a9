//! ResNet-18/34/50/101/152 under torchvision's parameter names (He et al., arXiv 1512.03385; the stride of a
//! bottleneck is on its 3×3 convolution, as in torchvision), with the ImageNet or the CIFAR stem and any width.

use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::collective::SharedCollective;
use crate::kernels;
use crate::nn::{BatchNorm, BatchNormMemory, Conv2d, Conv2dConfig, Conv2dMemory, Mode};
use crate::params::{Init, Scope};
use crate::tape::{FeatureGradients, Features, Gradients, Record, Tape};
use crate::{Error, Result};

/// Depth of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Basic blocks 2-2-2-2.
    #[default]
    ResNet18,
    /// Basic blocks 3-4-6-3.
    ResNet34,
    /// Bottleneck blocks 3-4-6-3.
    ResNet50,
    /// Bottleneck blocks 3-4-23-3.
    ResNet101,
    /// Bottleneck blocks 3-8-36-3.
    ResNet152,
}

impl Architecture {
    /// Every architecture, in the order of depth.
    pub const ALL: [Self; 5] = [Self::ResNet18, Self::ResNet34, Self::ResNet50, Self::ResNet101, Self::ResNet152];

    /// The name in recipes and in torchvision.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
        }
    }

    /// Number of blocks in each of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
            Self::ResNet101 => [3, 4, 23, 3],
            Self::ResNet152 => [3, 8, 36, 3],
        }
    }

    /// Output channels of a block over its inner width: 1 for basic blocks, 4 for bottlenecks.
    pub fn expansion(self) -> usize {
        match self {
            Self::ResNet18 | Self::ResNet34 => 1,
            _ => 4,
        }
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| format!("choose one of {}", names()))
    }
}

/// The first layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// One 3×3 convolution of stride 1, no pooling: for pictures of 32 pixels.
    #[default]
    Cifar,
    /// A 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2: torchvision's.
    ImageNet,
}

/// Shape of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Depth. Published: `resnet18` on CIFAR-10, `resnet50` on ImageNet.
    pub architecture: Architecture,
    /// First layers. Published: `cifar` on CIFAR-10, `imagenet` on ImageNet.
    pub stem: Stem,
    /// Channels of the first stage; the stages have 1, 2, 4, 8 times as many (times 4 with bottlenecks). Published: 64.
    pub width: usize,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { architecture: Architecture::ResNet18, stem: Stem::Cifar, width: 64 }
    }
}

impl ResNetConfig {
    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        match self.width {
            0 => vec!["the backbone's width is 0; give at least 1 (published: 64)".into()],
            _ => Vec::new(),
        }
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.width * 8 * self.architecture.expansion()
    }
}

/// One convolution followed by batch norm.
#[derive(Clone)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

struct ConvNormMemory {
    conv: Conv2dMemory,
    norm: BatchNormMemory,
}

impl ConvNorm {
    fn forward(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        mode: Mode,
    ) -> Result<(Tensor, ConvNormMemory)> {
        let (ys, sums, conv) = match mode {
            Mode::Train => {
                let (ys, sums, memory) = self.conv.forward_with_sums(xs)?;
                (ys, Some(sums), memory)
            }
            Mode::Eval => {
                let (ys, memory) = self.conv.forward(xs)?;
                (ys, None, memory)
            }
        };
        let (ys, norm) = self.norm.forward(ys, sums, residual, relu, mode)?;
        Ok((ys, ConvNormMemory { conv, norm }))
    }

    /// The gradient of the input.
    fn backward(&self, memory: ConvNormMemory, dys: &Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let dys = self.norm.backward(memory.norm, dys, gradients)?;
        self.conv.backward(memory.conv, &dys, gradients)
    }
}

/// A residual block: two (basic) or three (bottleneck) convolutions, and a 1×1 one on the shortcut where shapes change.
#[derive(Clone)]
struct Block {
    main: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

struct BlockMemory {
    main: Vec<ConvNormMemory>,
    downsample: Option<ConvNormMemory>,
    /// The rectified sum of both branches.
    ys: Tensor,
}

impl Block {
    fn new(
        inputs: usize,
        width: usize,
        stride: usize,
        expansion: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Self> {
        let outputs = width * expansion;
        // (in, out, kernel, stride) of each convolution of the main branch.
        let shapes = match expansion {
            1 => vec![(inputs, width, 3, stride), (width, width, 3, 1)],
            _ => vec![(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)],
        };
        let last = shapes.len();
        let mut main = Vec::with_capacity(last);
        for (i, shape) in (1..).zip(shapes) {
            // The last scale of each residual branch starts at zero (Goyal et al., arXiv 1706.02677, section 5.1).
            let scale = if i == last { 0.0 } else { 1.0 };
            let names = (format!("conv{i}"), format!("bn{i}"));
            main.push(conv_norm(shape, scale, (&names.0, &names.1), collective, scope)?);
        }
        let downsample = match stride != 1 || inputs != outputs {
            true => {
                let shape = (inputs, outputs, 1, stride);
                Some(conv_norm(shape, 1.0, ("downsample.0", "downsample.1"), collective, scope)?)
            }
            false => None,
        };
        Ok(Self { main, downsample })
    }

    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<(Tensor, BlockMemory)> {
        let (shortcut, downsample) = match &self.downsample {
            Some(layer) => {
                let (ys, memory) = layer.forward(xs, None, false, mode)?;
                (ys, Some(memory))
            }
            None => (xs.clone(), None),
        };
        let mut main = Vec::with_capacity(self.main.len());
        let mut ys = xs.clone();
        for (i, layer) in self.main.iter().enumerate() {
            let residual = (i + 1 == self.main.len()).then_some(&shortcut);
            let (next, memory) = layer.forward(&ys, residual, true, mode)?;
            main.push(memory);
            ys = next;
        }
        Ok((ys.clone(), BlockMemory { main, downsample, ys }))
    }

    /// Of the gradient that comes, both branches get what passed the ReLU behind their sum.
    fn backward(&self, memory: BlockMemory, dys: Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let BlockMemory { main, downsample, ys } = memory;
        let mut dxs: Option<Tensor> = None;
        for (layer, memory) in self.main.iter().zip(main).rev() {
            dxs = Some(layer.backward(memory, dxs.as_ref().unwrap_or(&dys), gradients)?);
        }
        let dxs = dxs.ok_or_else(|| Error::Config("a residual block has no layers".into()))?;
        match (&self.downsample, downsample) {
            (Some(layer), Some(ConvNormMemory { conv, norm })) => {
                let memory = ConvNormMemory { conv, norm: norm.rectified_later(&ys) };
                Ok(kernels::add(dxs, &layer.backward(memory, &dys, gradients)?, None)?)
            }
            _ => Ok(kernels::add(dxs, &dys, Some(&ys))?),
        }
    }
}

/// (in, out, kernel, stride) → convolution and batch norm under the two names.
fn conv_norm(
    (in_channels, out_channels, kernel, stride): (usize, usize, usize, usize),
    scale: f64,
    (conv, norm): (&str, &str),
    collective: &SharedCollective,
    scope: &mut Scope,
) -> Result<ConvNorm> {
    let init = Init::KaimingNormalFanOut;
    let config = Conv2dConfig { in_channels, out_channels, kernel, stride, padding: kernel / 2, groups: 1, init };
    let conv = Conv2d::new(&config, &mut scope.scope(conv))?;
    Ok(ConvNorm { conv, norm: BatchNorm::new(out_channels, scale, collective, &mut scope.scope(norm))? })
}

const POOL: (usize, usize, usize) = (3, 2, 1);

/// images `[batch, 3, height, width]` → pooled features `[batch, 8·width·expansion]`.
#[derive(Clone)]
pub struct ResNet {
    stem: ConvNorm,
    pool: bool,
    stages: Vec<Vec<Block>>,
    channels: Vec<usize>,
}

impl ResNet {
    /// Builds the network under torchvision's names: `conv1`, `bn1`, `layer1.0.conv1`, …, without the classifier `fc`.
    pub fn new(config: &ResNetConfig, collective: &SharedCollective, scope: &mut Scope) -> Result<Self> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        let stem = new_stem(config, collective, scope)?;
        let expansion = config.architecture.expansion();
        let (mut stages, mut channels, mut inputs) = (Vec::new(), Vec::new(), config.width);
        for (stage, &blocks) in config.architecture.blocks().iter().enumerate() {
            let width = config.width << stage;
            let mut scope = scope.scope(format!("layer{}", stage + 1));
            let mut layers = Vec::with_capacity(blocks);
            for block in 0..blocks {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                let mut scope = scope.scope(block.to_string());
                layers.push(Block::new(inputs, width, stride, expansion, collective, &mut scope)?);
                inputs = width * expansion;
            }
            stages.push(layers);
            channels.push(inputs);
        }
        Ok(Self { stem, pool: config.stem == Stem::ImageNet, stages, channels })
    }

    fn forward_stem(&self, images: &Tensor, mode: Mode) -> Result<(Tensor, ConvNormMemory, Option<PoolMemory>)> {
        let (xs, memory) = self.stem.forward(images, None, true, mode)?;
        if !self.pool {
            return Ok((xs, memory, None));
        }
        let (_, _, height, width) = xs.dims4()?;
        let (ys, winners) = kernels::max_pool2d(&xs, POOL.0, POOL.1, POOL.2)?;
        Ok((ys, memory, Some(PoolMemory { winners, size: (height, width) })))
    }
}

/// The stem: the CIFAR one keeps the default initialisation of convolutions, because the reference replaces
/// torchvision's first layer after torchvision has initialised its own.
fn new_stem(config: &ResNetConfig, collective: &SharedCollective, scope: &mut Scope) -> Result<ConvNorm> {
    let (kernel, stride, padding, init) = match config.stem {
        Stem::Cifar => (3, 1, 1, Init::KaimingUniformFanIn),
        Stem::ImageNet => (7, 2, 3, Init::KaimingNormalFanOut),
    };
    let out_channels = config.width;
    let shape = Conv2dConfig { in_channels: 3, out_channels, kernel, stride, padding, groups: 1, init };
    let conv = Conv2d::new(&shape, &mut scope.scope("conv1"))?;
    Ok(ConvNorm { conv, norm: BatchNorm::new(out_channels, 1.0, collective, &mut scope.scope("bn1"))? })
}

impl Backbone for ResNet {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<(Features, Tape)> {
        let (mut xs, stem, pool) = self.forward_stem(images, mode)?;
        let (mut memories, mut outputs) = (Vec::new(), Vec::new());
        for stage in &self.stages {
            let mut stage_memories = Vec::with_capacity(stage.len());
            for block in stage {
                let (ys, memory) = block.forward(&xs, mode)?;
                stage_memories.push(memory);
                xs = ys;
            }
            memories.push(stage_memories);
            outputs.push(xs.clone());
        }
        let (_, _, height, width) = xs.dims4()?;
        let features = Features { pooled: kernels::global_average_pool(&xs)?, stages: outputs };
        let record = ResNetRecord { net: self.clone(), stem, pool, stages: memories, last: (height, width) };
        Ok((features, Tape::new(record)))
    }

    fn infer(&self, images: &Tensor) -> Result<Features> {
        let (mut xs, ..) = self.forward_stem(images, Mode::Eval)?;
        let mut outputs = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            for block in stage {
                xs = block.forward(&xs, Mode::Eval)?.0;
            }
            outputs.push(xs.clone());
        }
        Ok(Features { pooled: kernels::global_average_pool(&xs)?, stages: outputs })
    }

    fn features(&self) -> usize {
        self.channels.last().copied().unwrap_or(0)
    }

    fn stage_channels(&self) -> Vec<usize> {
        self.channels.clone()
    }
}

struct PoolMemory {
    winners: Tensor,
    size: (usize, usize),
}

struct ResNetRecord {
    net: ResNet,
    stem: ConvNormMemory,
    pool: Option<PoolMemory>,
    stages: Vec<Vec<BlockMemory>>,
    last: (usize, usize),
}

impl Record for ResNetRecord {
    fn backward(self: Box<Self>, features: FeatureGradients) -> Result<Gradients> {
        let Self { net, stem, pool, stages, last } = *self;
        let mut gradients = Gradients::default();
        let mut dys = features.pooled.map(|g| kernels::global_average_pool_backward(&g, last)).transpose()?;
        let mut tapped = features.stages;
        tapped.resize(net.stages.len(), None);
        for ((blocks, memories), tap) in net.stages.iter().zip(stages).zip(tapped).rev() {
            dys = match (dys, tap) {
                (Some(a), Some(b)) => Some(kernels::add(a, &b, None)?),
                (a, b) => a.or(b),
            };
            for (block, memory) in blocks.iter().zip(memories).rev() {
                dys = dys.map(|dys| block.backward(memory, dys, &mut gradients)).transpose()?;
            }
        }
        let Some(mut dys) = dys else { return Ok(gradients) };
        if let Some(PoolMemory { winners, size }) = pool {
            dys = kernels::max_pool2d_backward(&dys, &winners, size)?;
        }
        let dys = net.stem.norm.backward(stem.norm, &dys, &mut gradients)?;
        net.stem.conv.backward_weight(stem.conv, &dys, &mut gradients)?;
        Ok(gradients)
    }
}
