//! ResNet-18/34/50/101/152 of any width (He et al., arXiv 1512.03385), under torchvision's parameter names. As in
//! torchvision, the stride of a bottleneck is on its 3×3 convolution.
//!
//! Variants are settings of the same network: wide ResNets, ResNeXt, and the stems and shortcuts of ResNet-C and
//! ResNet-D.

mod config;
mod halved;
mod layers;
mod library;
mod settings;
mod shapes;
mod stem;

use candle_core::Tensor;

pub use config::{Architecture, ResNetConfig, Stem};
use layers::{Block, LayerContext, SavedSegment, Segment};
use stem::StemLayers;

use crate::backbone::{Backbone, BackboneSettings};
use crate::collective::SharedCollective;
use crate::execution::Execution;
use crate::nn::Mode;
use crate::ops::{self, MaxPoolWinners};
use crate::params::{GradientSink, Scope};
use crate::tape::{FeatureGradients, Features, Record, Tape};
use crate::{Error, Result};

/// ResNet: images `[batch, 3, height, width]` → pooled features `[batch, 8·width·expansion]`.
#[derive(Clone)]
pub struct ResNet {
    stem: StemLayers,
    stages: Vec<Vec<Block>>,
    channels: Vec<usize>,
    recompute: bool,
    config: ResNetConfig,
}

impl ResNet {
    /// Builds the network under torchvision's names: `conv1`, `bn1`, `layer1.0.conv1`, …, without the classifier `fc`.
    ///
    /// # Errors
    ///
    /// If a setting is invalid, or a parameter of the same name already exists.
    pub fn new(
        config: &ResNetConfig,
        execution: Execution,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Self> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::setting("backbone", config.describe(), problem));
        }
        let context = LayerContext { execution, collective };
        let stem = StemLayers::new(config, context, scope)?;
        let (mut stages, mut channels) = (Vec::new(), Vec::new());
        let mut inputs = config.stem_convolutions().last().map_or(config.width, |conv| conv.outputs);
        for stage in 0..config.architecture.blocks().len() {
            let mut scope = scope.scope(format!("layer{}", stage + 1));
            let mut layers = Vec::new();
            for (block, shape) in config.blocks(stage, inputs).iter().enumerate() {
                let mut scope = scope.scope(block.to_string());
                layers.push(Block::new(shape, context, &mut scope)?);
                inputs = shape.outputs;
            }
            stages.push(layers);
            channels.push(inputs);
        }
        Ok(Self { stem, stages, channels, recompute: execution.recompute, config: config.clone() })
    }
}

impl Backbone for ResNet {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<(Features, Tape)> {
        let (mut xs, stem) = self.stem.forward(images, mode, self.recompute && self.stem.can_be_recomputed())?;
        let (mut saved, mut outputs) = (Vec::new(), Vec::new());
        for (number, stage) in (1..).zip(&self.stages) {
            let _stage = tracing::trace_span!("stage forward", number).entered();
            let mut saved_stage = Vec::with_capacity(stage.len());
            for block in stage {
                let (ys, saved_block) = block.forward(&xs, mode, self.recompute)?;
                saved_stage.push(saved_block);
                xs = ys;
            }
            saved.push(saved_stage);
            outputs.push(xs.clone());
        }
        let features = Features { pooled: ops::global_average_pool(&xs)?, stages: outputs.clone() };
        let stages = saved.into_iter().zip(outputs).collect();
        Ok((features, Tape::new(ResNetRecord { net: self.clone(), stem, stages })))
    }

    fn infer(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        let checkpoint = true;
        let (mut xs, _) = self.stem.forward(images, mode, checkpoint)?;
        let mut outputs = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            for block in stage {
                xs = block.forward(&xs, mode, checkpoint)?.0;
            }
            outputs.push(xs.clone());
        }
        Ok(Features { pooled: ops::global_average_pool(&xs)?, stages: outputs })
    }

    fn macs(&self, side: usize) -> Option<f64> {
        Some(self.config.macs(side))
    }

    fn features(&self) -> usize {
        self.channels.last().copied().unwrap_or(0)
    }

    fn stage_widths(&self) -> Vec<usize> {
        self.channels.clone()
    }
}

struct ResNetRecord {
    net: ResNet,
    stem: SavedSegment<Option<MaxPoolWinners>>,
    /// Saved activations of the blocks of each stage, and the output of the stage.
    stages: Vec<(Vec<SavedSegment<()>>, Tensor)>,
}

impl Record for ResNetRecord {
    fn backward(self: Box<Self>, features: FeatureGradients, sink: &mut dyn GradientSink) -> Result<()> {
        let Self { net, stem, mut stages } = *self;
        let mut dys = match (features.pooled, stages.last()) {
            (Some(pooled), Some((_, last))) => {
                let (_, _, height, width) = last.dims4()?;
                let dys = ops::global_average_pool_backward(&pooled, (height, width))?;
                Some(ops::relu_backward(dys, None, last)?)
            }
            _ => None,
        };
        let mut tapped = features.stages;
        tapped.resize(net.stages.len(), None);
        for (blocks, tap) in net.stages.iter().zip(tapped).rev() {
            let Some((saved, ys)) = stages.pop() else { break };
            let _stage = tracing::trace_span!("stage backward", number = stages.len() + 1).entered();
            // The gradient of the tap is that of the stage's output; the gradient from the next stage is already before
            // its ReLU.
            dys = match (dys, tap) {
                (Some(dys), Some(tap)) => Some(ops::relu_backward(dys, Some(&tap), &ys)?),
                (None, Some(tap)) => Some(ops::relu_backward(tap.copy()?, None, &ys)?),
                (dys, None) => dys,
            };
            drop(ys);
            for (block, saved) in blocks.iter().zip(saved).rev() {
                dys = dys.map(|dys| block.backward(saved, dys, sink)).transpose()?;
            }
        }
        if let Some(dys) = dys {
            net.stem.backward(stem, dys, sink)?;
        }
        Ok(())
    }
}
