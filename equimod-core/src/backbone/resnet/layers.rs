//! The stem and the blocks, forward and back; either can forget its inside and compute it again.

use candle_core::Tensor;

use crate::execution::Execution;
use crate::kernels;
use crate::nn::{Arriving, BatchNorm, BatchNormMemory, Conv2d, Conv2dConfig, Conv2dMemory, Mode, Statistics};
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
    conv: Conv2dMemory,
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

    fn forward(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        mode: Mode,
    ) -> Result<(Tensor, ConvNormMemory)> {
        let (ys, sums, conv) = self.convolve(xs, mode)?;
        let (ys, norm) = self.norm.forward(ys, sums, residual, relu, mode)?;
        Ok((ys, ConvNormMemory { conv, norm }))
    }

    /// The output alone, and what it takes to do the [same once more](Self::again).
    fn forward_and_forget(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        mode: Mode,
    ) -> Result<(Tensor, Statistics)> {
        let (ys, sums, _) = self.convolve(xs, mode)?;
        self.norm.forward_and_forget(ys, sums, residual, relu, mode)
    }

    /// The convolution's output and, if batch norm will ask for them, its sums.
    fn convolve(&self, xs: &Tensor, mode: Mode) -> Result<(Tensor, Option<Tensor>, Conv2dMemory)> {
        match mode {
            Mode::Train => {
                let (ys, sums, memory) = self.conv.forward_with_sums(xs)?;
                Ok((ys, Some(sums), memory))
            }
            Mode::Eval => {
                let (ys, memory) = self.conv.forward(xs)?;
                Ok((ys, None, memory))
            }
        }
    }

    /// The same once more, with the statistics of the first time.
    fn again(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        statistics: Statistics,
    ) -> Result<(Tensor, ConvNormMemory)> {
        let (ys, conv) = self.conv.forward(xs)?;
        let (ys, norm) = self.norm.apply(ys, statistics, residual, relu)?;
        Ok((ys, ConvNormMemory { conv, norm }))
    }

    /// The gradient of the input.
    fn backward(&self, memory: ConvNormMemory, dys: Arriving, gradients: &mut Gradients) -> Result<Tensor> {
        let dys = self.norm.backward(memory.norm, dys, gradients)?;
        self.conv.backward(memory.conv, &dys, gradients)
    }
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

    /// Computes the output; every layer by `layer(which, input, residual, relu)`, always in the same order.
    fn pass<M>(
        &self,
        xs: &Tensor,
        layer: impl FnMut(&ConvNorm, &Tensor, Option<&Tensor>, bool) -> Result<(Tensor, M)>,
    ) -> Result<(Tensor, Vec<M>, Self::Extra)>;

    /// The output and what is remembered of it: with `forget`, little.
    fn forward(&self, xs: &Tensor, mode: Mode, forget: bool) -> Result<(Tensor, Memory<Self::Extra>)> {
        if forget {
            let (ys, statistics, _) =
                self.pass(xs, |layer, xs, residual, relu| layer.forward_and_forget(xs, residual, relu, mode))?;
            return Ok((ys, Memory::Start(xs.clone(), statistics)));
        }
        let (ys, layers, extra) = self.pass(xs, |layer, xs, residual, relu| layer.forward(xs, residual, relu, mode))?;
        Ok((ys, Memory::Whole(layers, extra)))
    }

    /// All that the way back needs, computed again if it was forgotten: bit for bit the same, since the statistics are.
    fn recall(&self, memory: Memory<Self::Extra>) -> Result<(Vec<ConvNormMemory>, Self::Extra)> {
        match memory {
            Memory::Whole(layers, extra) => Ok((layers, extra)),
            Memory::Start(xs, statistics) => {
                let mut statistics = statistics.into_iter();
                let (_, layers, extra) = self.pass(&xs, |layer, xs, residual, relu| {
                    let missing = || Error::Config("a part of the network has more layers than before".into());
                    layer.again(xs, residual, relu, statistics.next().ok_or_else(missing)?)
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

    /// Of the gradient that comes, both branches get what passed the ReLU behind their sum.
    pub fn backward(&self, memory: Memory<Tensor>, dys: Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let (layers, ys) = self.recall(memory)?;
        let mut layers = layers.into_iter();
        let downsample = self.downsample.as_ref().and_then(|layer| Some((layer, layers.next()?)));
        let mut dxs: Option<Tensor> = None;
        for (layer, memory) in self.main.iter().zip(layers).rev() {
            let arriving = dxs.map_or(Arriving::Shared(&dys), Arriving::Own);
            dxs = Some(layer.backward(memory, arriving, gradients)?);
        }
        let dxs = dxs.ok_or_else(|| Error::Config("a residual block has no layers".into()))?;
        match downsample {
            Some((layer, ConvNormMemory { conv, norm })) => {
                let memory = ConvNormMemory { conv, norm: norm.rectified_later(&ys) };
                Ok(kernels::add(dxs, &layer.backward(memory, Arriving::Shared(&dys), gradients)?, None)?)
            }
            None => Ok(kernels::add(dxs, &dys, Some(&ys))?),
        }
    }
}

impl Part for Block {
    /// The rectified sum of both branches.
    type Extra = Tensor;

    fn pass<M>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &Tensor, Option<&Tensor>, bool) -> Result<(Tensor, M)>,
    ) -> Result<(Tensor, Vec<M>, Tensor)> {
        let mut memories = Vec::with_capacity(self.main.len() + 1);
        let mut shortcut = xs.clone();
        if let Some(downsample) = &self.downsample {
            let (ys, memory) = layer(downsample, xs, None, false)?;
            (shortcut, _) = (ys, memories.push(memory));
        }
        let mut ys = xs.clone();
        for (i, conv) in self.main.iter().enumerate() {
            let residual = (i + 1 == self.main.len()).then_some(&shortcut);
            let (next, memory) = layer(conv, &ys, residual, true)?;
            (ys, _) = (next, memories.push(memory));
        }
        Ok((ys.clone(), memories, ys))
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
    /// The way back ends here: nothing needs the gradient of the pictures.
    pub fn backward(&self, memory: Memory<Option<Pooled>>, dys: Tensor, gradients: &mut Gradients) -> Result<()> {
        let (layers, pooled) = self.recall(memory)?;
        let mut dys = match pooled {
            Some(Pooled { winners, size }) => kernels::max_pool2d_backward(&dys, &winners, size)?,
            None => dys,
        };
        for ConvNormMemory { conv, norm } in layers {
            dys = self.conv.norm.backward(norm, Arriving::Own(dys), gradients)?;
            self.conv.conv.backward_weight(conv, &dys, gradients)?;
        }
        Ok(())
    }
}

impl Part for StemLayers {
    type Extra = Option<Pooled>;

    fn pass<M>(
        &self,
        xs: &Tensor,
        mut layer: impl FnMut(&ConvNorm, &Tensor, Option<&Tensor>, bool) -> Result<(Tensor, M)>,
    ) -> Result<(Tensor, Vec<M>, Option<Pooled>)> {
        let (xs, memory) = layer(&self.conv, xs, None, true)?;
        if !self.pool {
            return Ok((xs, vec![memory], None));
        }
        let (_, _, height, width) = xs.dims4()?;
        let (ys, winners) = kernels::max_pool2d(&xs, POOL.0, POOL.1, POOL.2)?;
        Ok((ys, vec![memory], Some(Pooled { winners, size: (height, width) })))
    }
}
