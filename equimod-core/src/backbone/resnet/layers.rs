//! Convolutions with batch norm and residual blocks: forward and backward pass, with saved activations or activation
//! checkpointing.

use candle_core::Tensor;

use super::halved::{halved, halved_backward};
use super::shapes::BlockShape;
use crate::execution::Execution;
use crate::nn::{BatchNorm, Conv2d, Conv2dConfig, Epilogue, Mode, SavedBatchNorm, Statistics};
use crate::ops::{self, Accumulate, ConvInput};
use crate::params::{GradientSink, Init, Scope};
use crate::{Error, Result, SharedCollective};

/// Settings of a convolution followed by batch norm.
pub struct Shape {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    /// Initialization of the convolution's weight, and initial scale of the batch norm.
    pub init: (Init, f64),
}

/// Execution settings and collective with which layers are built.
#[derive(Clone, Copy)]
pub struct LayerContext<'a> {
    pub execution: Execution,
    pub collective: &'a SharedCollective,
}

/// A convolution followed by batch norm.
#[derive(Clone)]
pub struct ConvNorm {
    pub conv: Conv2d,
    pub norm: BatchNorm,
}

/// Saved activations of a [`ConvNorm`].
pub struct SavedConvNorm {
    /// Input of the convolution.
    pub xs: ConvInput,
    /// Prepared weight of the convolution.
    weight: Tensor,
    pub norm: SavedBatchNorm,
}

/// State of a [`ConvNorm`] that activation checkpointing saves.
pub struct LayerCheckpoint {
    /// Prepared weight of the convolution.
    weight: Tensor,
    statistics: Statistics,
}

impl ConvNorm {
    /// Builds convolution and batch norm under the two names in `scope`.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(shape: &Shape, (conv, norm): (&str, &str), context: LayerContext, scope: &mut Scope) -> Result<Self> {
        let &Shape { in_channels, out_channels, kernel, stride, padding, groups, init: (init, scale) } = shape;
        let algorithms = context.execution.algorithms();
        let config = Conv2dConfig { in_channels, out_channels, kernel, stride, padding, groups, algorithms, init };
        let conv = Conv2d::new(&config, &mut scope.scope(conv))?;
        let norm = BatchNorm::new(out_channels, scale, context.collective, &mut scope.scope(norm))?;
        Ok(Self { conv, norm })
    }

    fn forward(&self, xs: &ConvInput, epilogue: Epilogue, mode: Mode) -> Result<(ConvInput, SavedConvNorm)> {
        let weight = self.conv.prepared_weight(xs.values.dtype())?;
        let (ys, sums) = self.convolve(xs, &weight, mode)?;
        let (ys, norm) = self.norm.forward(ys, sums, epilogue, mode)?;
        Ok((ys, SavedConvNorm { xs: xs.clone(), weight, norm }))
    }

    /// Output, and the state that [`recompute`](Self::recompute) needs.
    fn forward_without_saving(
        &self,
        xs: &ConvInput,
        epilogue: Epilogue,
        mode: Mode,
    ) -> Result<(ConvInput, LayerCheckpoint)> {
        let weight = self.conv.prepared_weight(xs.values.dtype())?;
        let (ys, sums) = self.convolve(xs, &weight, mode)?;
        let (ys, statistics) = self.norm.forward_without_saving(ys, sums, epilogue, mode)?;
        Ok((ys, LayerCheckpoint { weight, statistics }))
    }

    /// Output of the convolution and, if batch norm needs them, its sums.
    fn convolve(&self, xs: &ConvInput, weight: &Tensor, mode: Mode) -> Result<(Tensor, Option<Tensor>)> {
        match mode {
            Mode::Train | Mode::TrainFrozenStats => {
                let (ys, sums) = self.conv.forward_with_sums(xs, weight)?;
                Ok((ys, Some(sums)))
            }
            Mode::Eval => Ok((self.conv.forward(xs, weight)?, None)),
        }
    }

    /// Recomputes [`forward`](Self::forward) with the statistics of the first pass. At the end of a block, where a
    /// residual is added, the output is not needed again, so the output of the convolution is returned instead.
    fn recompute(
        &self,
        xs: &ConvInput,
        epilogue: Epilogue,
        LayerCheckpoint { weight, statistics }: LayerCheckpoint,
    ) -> Result<(ConvInput, SavedConvNorm)> {
        let ys = self.conv.forward(xs, &weight)?;
        let (ys, norm) = match epilogue {
            Epilogue::Identity | Epilogue::AddRelu(_) => {
                (ys.clone().into(), SavedBatchNorm::without_output(ys, statistics))
            }
            Epilogue::Relu | Epilogue::ReluIntoConvolution => self.norm.apply(ys, statistics, epilogue)?,
        };
        Ok((ys, SavedConvNorm { xs: xs.clone(), weight, norm }))
    }

    /// Gradient of the input before the ReLU that produced it, `[N, C, H, W]`.
    fn backward_relu(
        &self,
        SavedConvNorm { xs, weight, norm }: SavedConvNorm,
        dys: Tensor,
        accumulate: Accumulate,
        gradients: &mut dyn GradientSink,
    ) -> Result<Tensor> {
        let dys_of_conv = self.norm.backward(norm, &dys, gradients)?;
        drop(dys);
        self.conv.backward_relu(&ops::materialize(&xs)?, &weight, &dys_of_conv, accumulate, gradients)
    }

    /// Gradient of the input, `[N, C, H, W]`, from that of the output before its ReLU, `[N, O, H', W']`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    pub fn backward(&self, saved: SavedConvNorm, dys: &Tensor, gradients: &mut dyn GradientSink) -> Result<Tensor> {
        let SavedConvNorm { xs, weight, norm } = saved;
        let dys = self.norm.backward(norm, dys, gradients)?;
        self.conv.backward(xs, &weight, &dys, gradients)
    }
}

/// Error of a segment whose saved activations do not fit its layers.
pub fn too_little() -> Error {
    Error::internal("a segment of the network saved too few activations for its backward pass")
}

/// Saved activations of a segment.
pub enum SavedSegment<E> {
    /// Saved activations of all layers, and additional ones.
    All(Vec<SavedConvNorm>, E),
    /// Activation checkpointing: the input and the state of all layers, from which the other activations are
    /// recomputed.
    Checkpoint(Tensor, Vec<LayerCheckpoint>),
}

/// A segment of the network, whose inner activations can be saved or recomputed.
pub trait Segment {
    /// Saved activations other than those of the layers.
    type Extra;

    /// Output of the segment for xs `[N, C, H, W]`, with each layer computed by `layer(which, input, epilogue)`, always
    /// in the same order.
    ///
    /// # Errors
    ///
    /// If `layer` or a tensor operation fails.
    fn pass<S>(
        &self,
        xs: &Tensor,
        layer: impl FnMut(&ConvNorm, &ConvInput, Epilogue) -> Result<(ConvInput, S)>,
    ) -> Result<(Tensor, Vec<S>, Self::Extra)>;

    /// Output for xs `[N, C, H, W]` and its saved activations, or only a checkpoint with `checkpoint`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    fn forward(&self, xs: &Tensor, mode: Mode, checkpoint: bool) -> Result<(Tensor, SavedSegment<Self::Extra>)> {
        if checkpoint {
            let (ys, layers, _) =
                self.pass(xs, |layer, xs, epilogue| layer.forward_without_saving(xs, epilogue, mode))?;
            return Ok((ys, SavedSegment::Checkpoint(xs.clone(), layers)));
        }
        let (ys, layers, extra) = self.pass(xs, |layer, xs, epilogue| layer.forward(xs, epilogue, mode))?;
        Ok((ys, SavedSegment::All(layers, extra)))
    }

    /// All activations for the backward pass, recomputed from a checkpoint if necessary. They are bitwise identical,
    /// because the statistics are.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not fit the segment, or a tensor operation fails.
    fn activations(&self, saved: SavedSegment<Self::Extra>) -> Result<(Vec<SavedConvNorm>, Self::Extra)> {
        match saved {
            SavedSegment::All(layers, extra) => Ok((layers, extra)),
            SavedSegment::Checkpoint(xs, checkpoints) => {
                let mut checkpoints = checkpoints.into_iter();
                let (_, layers, extra) = self.pass(&xs, |layer, xs, epilogue| {
                    let missing = || Error::internal("a segment of the network has more layers than before");
                    layer.recompute(xs, epilogue, checkpoints.next().ok_or_else(missing)?)
                })?;
                Ok((layers, extra))
            }
        }
    }
}

/// A residual block: two (basic) or three (bottleneck) convolutions, and a 1×1 convolution on the shortcut if the shape
/// changes.
#[derive(Clone)]
pub struct Block {
    main: Vec<ConvNorm>,
    downsample: Option<Downsample>,
    /// Whether the input is the output of a ReLU.
    after_relu: bool,
}

/// Convolution of a shortcut.
#[derive(Clone)]
struct Downsample {
    layer: ConvNorm,
    /// Whether an average pool before the convolution halves the resolution, instead of a stride.
    pool: bool,
}

impl Block {
    /// Builds the block under torchvision's names in `scope`: `conv1`, `bn1`, …, `downsample`.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(shape: &BlockShape, context: LayerContext, scope: &mut Scope) -> Result<Self> {
        let convolutions = shape.convolutions();
        let last = convolutions.len();
        let mut main = Vec::with_capacity(last);
        for (i, conv) in (1..).zip(convolutions) {
            // The last batch norm of each residual branch is initialized to 0 (Goyal et al., arXiv 1706.02677, section
            // 5.1).
            let scale = if i == last { 0.0 } else { 1.0 };
            let shape = Shape {
                in_channels: conv.inputs,
                out_channels: conv.outputs,
                kernel: conv.kernel,
                stride: conv.stride,
                padding: conv.kernel / 2,
                groups: conv.groups,
                init: (Init::KaimingNormalFanOut, scale),
            };
            let names = (format!("conv{i}"), format!("bn{i}"));
            main.push(ConvNorm::new(&shape, (&names.0, &names.1), context, scope)?);
        }
        let downsample = match shape.has_convolution_on_shortcut() {
            true => Some(Downsample::new(shape, context, scope)?),
            false => None,
        };
        Ok(Self { main, downsample, after_relu: shape.after_relu })
    }

    /// Gradient of the input, `[N, C, H, W]`, from `dys` `[N, O, H', W']`, the gradient of the sum of both branches
    /// before its ReLU. If a ReLU produced the input, the result is the gradient before that ReLU.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    pub fn backward(&self, saved: SavedSegment<()>, dys: Tensor, gradients: &mut dyn GradientSink) -> Result<Tensor> {
        let (mut layers, ()) = self.activations(saved)?;
        let (first, others) = self.main.split_first().ok_or_else(too_little)?;
        let mut dxs: Option<Tensor> = None;
        // When a norm overwrites its saved input, the backward pass of the next convolution has already read it.
        for layer in others.iter().rev() {
            let saved = layers.pop().ok_or_else(too_little)?;
            dxs = Some(layer.backward(saved, dxs.take().as_ref().unwrap_or(&dys), gradients)?);
        }
        let (saved, dxs) = (layers.pop().ok_or_else(too_little)?, dxs.ok_or_else(too_little)?);
        let dys = match &self.downsample {
            // Without a pool, the shortcut's convolution applies the backward pass of the input's ReLU for both
            // branches.
            Some(Downsample { layer, pool: false }) if self.after_relu => {
                let dxs = first.backward_relu(saved, dxs, Accumulate::Overwrite, gradients)?;
                let saved = layers.pop().ok_or_else(too_little)?;
                return layer.backward_relu(saved, dys, Accumulate::MaskThenAdd(dxs), gradients);
            }
            Some(downsample) => {
                let (_, _, height, width) = saved.xs.values.dims4()?;
                downsample.backward(layers.pop().ok_or_else(too_little)?, &dys, (height, width), gradients)?
            }
            None => dys,
        };
        match self.after_relu {
            true => first.backward_relu(saved, dxs, Accumulate::AddThenMask(dys), gradients),
            false => Ok((first.backward(saved, &dxs, gradients)? + dys)?),
        }
    }
}

impl Downsample {
    fn new(shape: &BlockShape, context: LayerContext, scope: &mut Scope) -> Result<Self> {
        // The pool is the first entry of timm's Sequential, an identity if the resolution stays the same.
        let names =
            if shape.average_shortcut { ("downsample.1", "downsample.2") } else { ("downsample.0", "downsample.1") };
        let pool = shape.average_shortcut && shape.stride != 1;
        let shape = Shape {
            in_channels: shape.inputs,
            out_channels: shape.outputs,
            kernel: 1,
            stride: if pool { 1 } else { shape.stride },
            padding: 0,
            groups: 1,
            init: (Init::KaimingNormalFanOut, 1.0),
        };
        Ok(Self { layer: ConvNorm::new(&shape, names, context, scope)?, pool })
    }

    /// Gradient of the block's input, `[N, C, height, width]` with the given size.
    fn backward(
        &self,
        saved: SavedConvNorm,
        dys: &Tensor,
        size: (usize, usize),
        gradients: &mut dyn GradientSink,
    ) -> Result<Tensor> {
        let dxs = self.layer.backward(saved, dys, gradients)?;
        if self.pool { halved_backward(&dxs, size) } else { Ok(dxs) }
    }
}

impl Segment for Block {
    type Extra = ();

    fn pass<S>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &ConvInput, Epilogue) -> Result<(ConvInput, S)>,
    ) -> Result<(Tensor, Vec<S>, ())> {
        let mut saved = Vec::with_capacity(self.main.len() + 1);
        let mut shortcut = xs.clone();
        if let Some(downsample) = &self.downsample {
            let pooled = if downsample.pool { halved(xs)? } else { xs.clone() };
            let (ys, saved_layer) = layer(&downsample.layer, &pooled.into(), Epilogue::Identity)?;
            shortcut = ys.values;
            saved.push(saved_layer);
        }
        let mut ys = ConvInput::from(xs);
        for (i, conv) in self.main.iter().enumerate() {
            let last = i + 1 == self.main.len();
            let epilogue = if last { Epilogue::AddRelu(&shortcut) } else { Epilogue::ReluIntoConvolution };
            let (next, saved_layer) = layer(conv, &ys, epilogue)?;
            ys = next;
            saved.push(saved_layer);
        }
        Ok((ys.values, saved, ()))
    }
}
