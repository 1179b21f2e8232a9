//! Convolutions with batch norm, and the blocks made of them, forward and backward; a block can forget its inside and
//! compute it again.

use candle_core::Tensor;

use super::halved::{halved, halved_backward};
use super::shapes::BlockShape;
use crate::execution::Execution;
use crate::kernels::{Beside, Input};
use crate::nn::{BatchNorm, BatchNormMemory, Conv2d, Conv2dConfig, Mode, Statistics, Then};
use crate::params::{Gradients, Init, Scope};
use crate::{Error, Result, SharedCollective};

/// Sizes of a convolution that is followed by batch norm.
pub struct Shape {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    /// Initial weights of the convolution, and scale of the batch norm.
    pub init: (Init, f64),
}

/// What layers are built with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub execution: Execution,
    pub collective: &'a SharedCollective,
}

/// One convolution followed by batch norm.
#[derive(Clone)]
pub struct ConvNorm {
    pub conv: Conv2d,
    pub norm: BatchNorm,
}

pub struct ConvNormMemory {
    /// The convolution's input.
    pub xs: Input,
    pub norm: BatchNormMemory,
}

impl ConvNorm {
    /// Convolution and batch norm under the two names.
    pub fn new(
        shape: &Shape,
        (conv, norm): (&str, &str),
        surroundings: Surroundings,
        scope: &mut Scope,
    ) -> Result<Self> {
        let &Shape { in_channels, out_channels, kernel, stride, padding, groups, init: (init, scale) } = shape;
        let winograd = surroundings.execution.winograd;
        let config = Conv2dConfig { in_channels, out_channels, kernel, stride, padding, groups, winograd, init };
        let conv = Conv2d::new(&config, &mut scope.scope(conv))?;
        let norm = BatchNorm::new(out_channels, scale, surroundings.collective, &mut scope.scope(norm))?;
        Ok(Self { conv, norm })
    }

    fn forward(&self, xs: &Input, then: Then, mode: Mode) -> Result<(Input, ConvNormMemory)> {
        let (ys, sums) = self.convolve(xs, mode)?;
        let (ys, norm) = self.norm.forward(ys, sums, then, mode)?;
        Ok((ys, ConvNormMemory { xs: xs.clone(), norm }))
    }

    /// The output alone, and what it takes to do the [same once more](Self::again).
    fn forward_and_forget(&self, xs: &Input, then: Then, mode: Mode) -> Result<(Input, Statistics)> {
        let (ys, sums) = self.convolve(xs, mode)?;
        self.norm.forward_and_forget(ys, sums, then, mode)
    }

    /// The convolution's output and, if batch norm will ask for them, its sums.
    fn convolve(&self, xs: &Input, mode: Mode) -> Result<(Tensor, Option<Tensor>)> {
        match mode {
            Mode::Train | Mode::TrainFrozenStats => self.conv.forward_with_sums(xs).map(|(ys, sums)| (ys, Some(sums))),
            Mode::Eval => Ok((self.conv.forward(xs)?, None)),
        }
    }

    /// The same once more, with the statistics of the first time. Where a residual is added, which ends a part, nobody
    /// asks for the output, and so not for the residual: then they are the convolution's.
    fn again(&self, xs: &Input, then: Then, statistics: Statistics) -> Result<(Input, ConvNormMemory)> {
        let ys = self.conv.forward(xs)?;
        let (ys, norm) = match then {
            Then::Nothing | Then::ResidualAndRelu(_) => {
                (ys.clone().into(), BatchNormMemory::without_output(ys, statistics))
            }
            Then::Relu | Then::ReluAndConvolution => self.norm.apply(ys, statistics, then)?,
        };
        Ok((ys, ConvNormMemory { xs: xs.clone(), norm }))
    }

    /// The gradient of the input, which a ReLU made, before that ReLU.
    fn backward_before_relu(
        &self,
        ConvNormMemory { xs, norm }: ConvNormMemory,
        dys: Tensor,
        beside: Beside,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let dys_of_conv = self.norm.backward(norm, &dys, gradients)?;
        drop(dys);
        self.conv.backward_before_relu(&xs.made()?, &dys_of_conv, beside, gradients)
    }

    /// The gradient of the input.
    pub fn backward(&self, memory: ConvNormMemory, dys: &Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let ConvNormMemory { xs, norm } = memory;
        let dys = self.norm.backward(norm, dys, gradients)?;
        self.conv.backward(xs, &dys, gradients)
    }
}

pub fn too_little() -> Error {
    Error::Config("a part of the network remembers too little of its pass for the way back".into())
}

/// What a part remembers.
pub enum Memory<E> {
    /// All that its way back needs: that of its layers, and more.
    Whole(Vec<ConvNormMemory>, E),
    /// What it takes to compute that again: its input, and the statistics of its layers.
    Start(Tensor, Vec<Statistics>),
}

/// A part of the network between whose input and output something can be forgotten.
pub trait Part {
    /// What the way back needs beside the memory of the layers.
    type Extra;

    /// Computes the output; every layer by `layer(which, input, what follows)`, always in the same order.
    fn pass<M>(
        &self,
        xs: &Tensor,
        layer: impl FnMut(&ConvNorm, &Input, Then) -> Result<(Input, M)>,
    ) -> Result<(Tensor, Vec<M>, Self::Extra)>;

    /// The output and what is remembered of it: with `forget`, little.
    fn forward(&self, xs: &Tensor, mode: Mode, forget: bool) -> Result<(Tensor, Memory<Self::Extra>)> {
        if forget {
            let (ys, statistics, _) = self.pass(xs, |layer, xs, then| layer.forward_and_forget(xs, then, mode))?;
            return Ok((ys, Memory::Start(xs.clone(), statistics)));
        }
        let (ys, layers, extra) = self.pass(xs, |layer, xs, then| layer.forward(xs, then, mode))?;
        Ok((ys, Memory::Whole(layers, extra)))
    }

    /// All that the way back needs, computed again if it was forgotten: bit for bit the same, since the statistics are.
    fn recall(&self, memory: Memory<Self::Extra>) -> Result<(Vec<ConvNormMemory>, Self::Extra)> {
        match memory {
            Memory::Whole(layers, extra) => Ok((layers, extra)),
            Memory::Start(xs, statistics) => {
                let mut statistics = statistics.into_iter();
                let (_, layers, extra) = self.pass(&xs, |layer, xs, then| {
                    let missing = || Error::Config("a part of the network has more layers than before".into());
                    layer.again(xs, then, statistics.next().ok_or_else(missing)?)
                })?;
                Ok((layers, extra))
            }
        }
    }
}

/// A residual block: two (basic) or three (bottleneck) convolutions, and a 1×1 one on the shortcut where shapes change.
#[derive(Clone)]
pub struct Block {
    main: Vec<ConvNorm>,
    downsample: Option<Downsample>,
    /// Whether a ReLU made its input.
    after_relu: bool,
}

/// The convolution of a shortcut.
#[derive(Clone)]
struct Downsample {
    layer: ConvNorm,
    /// Whether an average pool before it halves the resolution, in place of its stride.
    pool: bool,
}

impl Block {
    pub fn new(shape: &BlockShape, surroundings: Surroundings, scope: &mut Scope) -> Result<Self> {
        let convolutions = shape.convolutions();
        let last = convolutions.len();
        let mut main = Vec::with_capacity(last);
        for (i, conv) in (1..).zip(convolutions) {
            // The last scale of each residual branch starts at zero (Goyal et al., arXiv 1706.02677, section 5.1).
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
            main.push(ConvNorm::new(&shape, (&names.0, &names.1), surroundings, scope)?);
        }
        let downsample = match shape.has_convolution_on_shortcut() {
            true => Some(Downsample::new(shape, surroundings, scope)?),
            false => None,
        };
        Ok(Self { main, downsample, after_relu: shape.after_relu })
    }

    /// From the gradient of the sum of both branches, before the ReLU behind it, to that of the input, before the ReLU
    /// that made it.
    pub fn backward(&self, memory: Memory<()>, dys: Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let (mut layers, ()) = self.recall(memory)?;
        let (first, others) = self.main.split_first().ok_or_else(too_little)?;
        let mut dxs: Option<Tensor> = None;
        // A convolution has read its input, the output of the one before, when the norm between them overwrites that.
        for layer in others.iter().rev() {
            let memory = layers.pop().ok_or_else(too_little)?;
            dxs = Some(layer.backward(memory, dxs.take().as_ref().unwrap_or(&dys), gradients)?);
        }
        let (memory, dxs) = (layers.pop().ok_or_else(too_little)?, dxs.ok_or_else(too_little)?);
        let dys = match &self.downsample {
            // With neither a pool nor a missing ReLU, the ReLU is passed on the way.
            Some(Downsample { layer, pool: false }) if self.after_relu => {
                let dxs = first.backward_before_relu(memory, dxs, Beside::Nothing, gradients)?;
                let memory = layers.pop().ok_or_else(too_little)?;
                return layer.backward_before_relu(memory, dys, Beside::Before(dxs), gradients);
            }
            Some(downsample) => {
                let (_, _, height, width) = memory.xs.values.dims4()?;
                downsample.backward(layers.pop().ok_or_else(too_little)?, &dys, (height, width), gradients)?
            }
            None => dys,
        };
        match self.after_relu {
            true => first.backward_before_relu(memory, dxs, Beside::Behind(dys), gradients),
            false => Ok((first.backward(memory, &dxs, gradients)? + dys)?),
        }
    }
}

impl Downsample {
    fn new(shape: &BlockShape, surroundings: Surroundings, scope: &mut Scope) -> Result<Self> {
        // The pool comes first in timm's Sequential, and is nothing there where the resolution stays.
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
        Ok(Self { layer: ConvNorm::new(&shape, names, surroundings, scope)?, pool })
    }

    /// The gradient of the block's input, of this size.
    fn backward(
        &self,
        memory: ConvNormMemory,
        dys: &Tensor,
        size: (usize, usize),
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let dxs = self.layer.backward(memory, dys, gradients)?;
        if self.pool { halved_backward(&dxs, size) } else { Ok(dxs) }
    }
}

impl Part for Block {
    type Extra = ();

    fn pass<M>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &Input, Then) -> Result<(Input, M)>,
    ) -> Result<(Tensor, Vec<M>, ())> {
        let mut memories = Vec::with_capacity(self.main.len() + 1);
        let mut shortcut = xs.clone();
        if let Some(downsample) = &self.downsample {
            let pooled = if downsample.pool { halved(xs)? } else { xs.clone() };
            let (ys, memory) = layer(&downsample.layer, &pooled.into(), Then::Nothing)?;
            (shortcut, _) = (ys.values, memories.push(memory));
        }
        let mut ys = Input::from(xs);
        for (i, conv) in self.main.iter().enumerate() {
            let last = i + 1 == self.main.len();
            let then = if last { Then::ResidualAndRelu(&shortcut) } else { Then::ReluAndConvolution };
            let (next, memory) = layer(conv, &ys, then)?;
            (ys, _) = (next, memories.push(memory));
        }
        Ok((ys.values, memories, ()))
    }
}
