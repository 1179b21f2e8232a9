//! The stem and the blocks, forward and back; either can forget its inside and compute it again.

use candle_core::Tensor;

use crate::execution::Execution;
use crate::kernels::{self, Beside, Input};
use crate::nn::{BatchNorm, BatchNormMemory, Conv2d, Conv2dConfig, Mode, Statistics, Then};
use crate::params::{Init, Scope};
use crate::tape::Gradients;
use crate::{Error, Result, SharedCollective};

/// Sizes of a convolution that is followed by batch norm.
pub struct Shape {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
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
    conv: Conv2d,
    norm: BatchNorm,
}

pub struct ConvNormMemory {
    /// The convolution's input.
    xs: Input,
    norm: BatchNormMemory,
}

impl ConvNorm {
    /// Convolution and batch norm under the two names.
    pub fn new(
        shape: &Shape,
        (conv, norm): (&str, &str),
        surroundings: Surroundings,
        scope: &mut Scope,
    ) -> Result<Self> {
        let &Shape { in_channels, out_channels, kernel, stride, init: (init, scale) } = shape;
        let (padding, winograd) = (kernel / 2, surroundings.execution.winograd);
        let config = Conv2dConfig { in_channels, out_channels, kernel, stride, padding, groups: 1, winograd, init };
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
            Mode::Train | Mode::Still => self.conv.forward_with_sums(xs).map(|(ys, sums)| (ys, Some(sums))),
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
}

fn too_little() -> Error {
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
    downsample: Option<ConvNorm>,
}

impl Block {
    pub fn new(
        inputs: usize,
        width: usize,
        stride: usize,
        expansion: usize,
        surroundings: Surroundings,
        scope: &mut Scope,
    ) -> Result<Self> {
        let outputs = width * expansion;
        // (in, out, kernel, stride) of each convolution of the main branch.
        let shapes = match expansion {
            1 => vec![(inputs, width, 3, stride), (width, width, 3, 1)],
            _ => vec![(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)],
        };
        let shape = |(in_channels, out_channels, kernel, stride), scale| Shape {
            in_channels,
            out_channels,
            kernel,
            stride,
            init: (Init::KaimingNormalFanOut, scale),
        };
        let last = shapes.len();
        let mut main = Vec::with_capacity(last);
        for (i, sizes) in (1..).zip(shapes) {
            // The last scale of each residual branch starts at zero (Goyal et al., arXiv 1706.02677, section 5.1).
            let scale = if i == last { 0.0 } else { 1.0 };
            let names = (format!("conv{i}"), format!("bn{i}"));
            main.push(ConvNorm::new(&shape(sizes, scale), (&names.0, &names.1), surroundings, scope)?);
        }
        let downsample = match stride != 1 || inputs != outputs {
            true => {
                let shape = shape((inputs, outputs, 1, stride), 1.0);
                Some(ConvNorm::new(&shape, ("downsample.0", "downsample.1"), surroundings, scope)?)
            }
            false => None,
        };
        Ok(Self { main, downsample })
    }

    /// From the gradient of the sum of both branches, before the ReLU behind it, to that of the input, before the ReLU
    /// that made it.
    pub fn backward(&self, memory: Memory<()>, dys: Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let (mut layers, ()) = self.recall(memory)?;
        let (first, others) = self.main.split_first().ok_or_else(too_little)?;
        let mut dxs: Option<Tensor> = None;
        // A convolution has read its input, the output of the one before, when the norm between them overwrites that.
        for layer in others.iter().rev() {
            let ConvNormMemory { xs, norm } = layers.pop().ok_or_else(too_little)?;
            let dys = layer.norm.backward(norm, dxs.take().as_ref().unwrap_or(&dys), gradients)?;
            dxs = Some(layer.conv.backward(xs, &dys, gradients)?);
        }
        let (memory, dxs) = (layers.pop().ok_or_else(too_little)?, dxs.ok_or_else(too_little)?);
        let Some(downsample) = &self.downsample else {
            return first.backward_before_relu(memory, dxs, Beside::Behind(dys), gradients);
        };
        let dxs = first.backward_before_relu(memory, dxs, Beside::Nothing, gradients)?;
        let memory = layers.pop().ok_or_else(too_little)?;
        downsample.backward_before_relu(memory, dys, Beside::Before(dxs), gradients)
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
            let (ys, memory) = layer(downsample, &xs.into(), Then::Nothing)?;
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

/// Window, stride and padding of the ImageNet stem's max-pool.
const POOL: (usize, usize, usize) = (3, 2, 1);

/// The first convolution, and the max-pool that the ImageNet stem has behind it.
#[derive(Clone)]
pub struct StemLayers {
    pub conv: ConvNorm,
    pub pool: bool,
}

/// Where a max-pool found its maxima, in pictures of `size`.
pub struct Pooled {
    winners: Tensor,
    size: (usize, usize),
}

impl StemLayers {
    /// From the gradient of the output before the ReLU. The way back ends here: nothing needs the gradient of the pictures.
    pub fn backward(&self, memory: Memory<Option<Pooled>>, dys: Tensor, gradients: &mut Gradients) -> Result<()> {
        let (layers, pooled) = self.recall(memory)?;
        let mut dys = match pooled {
            Some(Pooled { winners, size }) => kernels::max_pool2d_backward(&dys, &winners, size)?,
            None => dys,
        };
        for ConvNormMemory { xs, norm } in layers {
            dys = self.conv.norm.backward(norm, &dys, gradients)?;
            self.conv.conv.backward_weight(xs, &dys, gradients)?;
        }
        Ok(())
    }
}

impl Part for StemLayers {
    type Extra = Option<Pooled>;

    fn pass<M>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &Input, Then) -> Result<(Input, M)>,
    ) -> Result<(Tensor, Vec<M>, Option<Pooled>)> {
        let (Input { values: xs, .. }, memory) = layer(&self.conv, &xs.into(), Then::Relu)?;
        if !self.pool {
            return Ok((xs, vec![memory], None));
        }
        let (_, _, height, width) = xs.dims4()?;
        let (ys, winners) = kernels::max_pool2d(&xs, POOL.0, POOL.1, POOL.2)?;
        Ok((ys, vec![memory], Some(Pooled { winners, size: (height, width) })))
    }
}
