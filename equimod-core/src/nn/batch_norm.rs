//! Batch norm: biased variance to normalise, unbiased into the running statistics (PyTorch's `BatchNorm1d/2d`).
//!
//! Forward and backward are split at their per-channel sums, which go through the [`Collective`]: N processes
//! normalise with the statistics of the whole batch.

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use crate::collective::{Collective, SharedCollective};
use crate::kernels::{self, Input, Rectifier};
use crate::nn::collector::collect;
use crate::nn::{Mode, hand_written, hand_written_of_three};
use crate::params::{Gradients, Init, Role, Scope};
use crate::{Error, Result};

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Mean and inverse deviation per channel, `[channels]` each, and how many values they were taken over.
#[derive(Clone)]
pub struct Statistics {
    mean: Tensor,
    inverse_deviation: Tensor,
    count: f64,
    mode: Mode,
}

impl Statistics {
    /// σ⁻¹, times the weight where there is one.
    fn scale(&self, weight: Option<&Tensor>) -> Result<Tensor> {
        match weight {
            Some(weight) => Ok((&self.inverse_deviation * weight.to_dtype(self.mean.dtype())?)?),
            None => Ok(self.inverse_deviation.clone()),
        }
    }

    /// `(scale, shift)` so that `xs·scale + shift` is the normalised, and where given scaled and shifted, input.
    fn affine(&self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let scale = self.scale(weight)?;
        let shift = (&self.mean * &scale)?.neg()?;
        let shift = match bias {
            Some(bias) => (shift + bias.to_dtype(self.mean.dtype())?)?,
            None => shift,
        };
        Ok((scale, shift))
    }

    /// The sums of [`kernels::batch_norm_backward_sums`], which are the gradients of bias and weight, and the coefficients of the
    /// input's gradient, which is linear in the output's and in the input itself:
    ///
    /// `dx = weight·σ⁻¹·(dy − mean(dy) − x̂·mean(dy·x̂)) = scale·dy + slope·x + offset`
    ///
    /// with means over the whole batch, from every process's sums, and zero where the statistics did not depend on the batch.
    /// Scale, slope and offset are `[channels]` each, of the input's type.
    fn way_back(
        &self,
        dys: &Tensor,
        rectifier: Option<&Rectifier>,
        xs: &Tensor,
        weight: Option<&Tensor>,
        collective: &dyn Collective,
    ) -> Result<(Tensor, [Tensor; 3])> {
        let dtype = xs.dtype();
        let (mean, inverse_deviation) = (self.mean.to_dtype(dtype)?, self.inverse_deviation.to_dtype(dtype)?);
        let sums = kernels::batch_norm_backward_sums(dys, rectifier, xs, &mean, &inverse_deviation)?;
        let means = match self.mode {
            Mode::Train | Mode::TrainFrozenStats => (collective.all_reduce_sum(&sums)? / self.count)?,
            // Sums may have more bits than running statistics.
            Mode::Eval => sums.zeros_like()?.to_dtype(self.mean.dtype())?,
        };
        let (mean_dy, mean_dy_xhat) = (means.get(0)?, means.get(1)?);
        let scale = self.scale(weight)?;
        let slope = ((&scale * &self.inverse_deviation)? * mean_dy_xhat)?.neg()?;
        let offset = ((&scale * mean_dy)?.neg()? - (&slope * &self.mean)?)?;
        Ok((sums, [scale.to_dtype(dtype)?, slope.to_dtype(dtype)?, offset.to_dtype(dtype)?]))
    }
}

/// The running statistics and their update.
#[derive(Clone, Debug)]
struct Running {
    mean: Var,
    variance: Var,
    batches: Var,
}

impl Running {
    fn new(channels: usize, scope: &mut Scope) -> Result<Self> {
        Ok(Self {
            mean: scope.buffer("running_mean", channels, 0.0)?,
            variance: scope.buffer("running_var", channels, 1.0)?,
            batches: scope.counter("num_batches_tracked")?,
        })
    }

    /// Statistics for `xs`, whose [`kernels::batch_norm_sums`] may be known already.
    fn statistics(
        &self,
        xs: &Tensor,
        sums: Option<Tensor>,
        mode: Mode,
        collective: &dyn Collective,
    ) -> Result<Statistics> {
        match mode {
            Mode::Train | Mode::TrainFrozenStats => self.of_batch(xs, sums, mode, collective),
            Mode::Eval => {
                let inverse_deviation = (self.variance.as_tensor() + EPSILON)?.sqrt()?.recip()?.detach();
                Ok(Statistics { mean: self.mean.as_detached_tensor(), inverse_deviation, count: 1.0, mode })
            }
        }
    }

    fn of_batch(
        &self,
        xs: &Tensor,
        sums: Option<Tensor>,
        mode: Mode,
        collective: &dyn Collective,
    ) -> Result<Statistics> {
        let count = (xs.elem_count() / xs.dim(1)? * collective.size()) as f64;
        if count < 2.0 {
            let text = "batch norm in training needs more than one value per channel; use a larger batch or picture";
            return Err(Error::Config(text.into()));
        }
        let sums = sums.map_or_else(|| kernels::batch_norm_sums(xs), Ok)?;
        let means = (collective.all_reduce_sum(&sums)? / count)?;
        let mean = means.get(0)?;
        let variance = (means.get(1)? - mean.sqr()?)?.relu()?;
        if mode == Mode::Train {
            self.update(&mean, &(&variance * (count / (count - 1.0)))?)?;
        }
        let inverse_deviation = (variance + EPSILON)?.sqrt()?.recip()?;
        Ok(Statistics { mean, inverse_deviation, count, mode })
    }

    fn update(&self, mean: &Tensor, unbiased_variance: &Tensor) -> Result<()> {
        for (running, batch) in [(&self.mean, mean), (&self.variance, unbiased_variance)] {
            let kept = (running.as_detached_tensor().to_dtype(batch.dtype())? * (1.0 - MOMENTUM))?;
            running.set(&(kept + (batch * MOMENTUM)?)?.to_dtype(running.dtype())?)?;
        }
        self.batches.set(&(self.batches.as_detached_tensor() + 1.0)?)?;
        Ok(())
    }
}

/// Batch norm over `[batch, channels, height, width]`, with the ReLU and the residual addition that may follow it.
#[derive(Clone)]
pub struct BatchNorm {
    weight: (Arc<str>, Var),
    bias: (Arc<str>, Var),
    running: Running,
    collective: SharedCollective,
}

/// What batch norm remembers: its input, whose memory the way back uses, the ReLU behind it, and the statistics.
pub struct BatchNormMemory {
    xs: Tensor,
    /// The ReLU through which gradients have still to go.
    rectifier: Option<Rectifier>,
    statistics: Statistics,
}

impl BatchNormMemory {
    /// That of a pass whose output is not needed any more, and whose ReLU, if it had one, is not on this norm's way back.
    pub fn without_output(xs: Tensor, statistics: Statistics) -> Self {
        Self { xs, rectifier: None, statistics }
    }
}

/// What follows a batch norm.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    /// Nothing.
    Nothing,
    /// A ReLU. Whoever reads its output has the gradient go back through it.
    Relu,
    /// A ReLU, and a convolution that can take the input of both. The norm's own way back goes through the ReLU.
    ReluAndConvolution,
    /// The addition of a residual, and a ReLU, with which it is as with [`Relu`](Self::Relu).
    ResidualAndRelu(&'a Tensor),
}

impl<'a> Then<'a> {
    /// What is added.
    fn residual(self) -> Option<&'a Tensor> {
        if let Self::ResidualAndRelu(residual) = self { Some(residual) } else { None }
    }

    fn is_relu(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

impl BatchNorm {
    /// Creates `weight` (filled with `scale`), `bias` (0) and the running statistics, `[channels]` each.
    pub fn new(channels: usize, scale: f64, collective: &SharedCollective, scope: &mut Scope) -> Result<Self> {
        let mut part = |name: &str, value| -> Result<(Arc<str>, Var)> {
            let var = scope.parameter(name, channels, Init::Constant(value), Role::Other)?;
            Ok((scope.full(name).into(), var))
        };
        let (weight, bias) = (part("weight", scale)?, part("bias", 0.0)?);
        Ok(Self { weight, bias, running: Running::new(channels, scope)?, collective: collective.clone() })
    }

    /// What `xs` becomes by the norm and what comes `then`, and the memory of it; `sums` are the [`kernels::batch_norm_sums`]
    /// of `xs`, where they are known. The way back overwrites `xs`: until then no other tensor may share its memory but the
    /// input of a convolution that comes `then`, which is used up first.
    pub fn forward(
        &self,
        xs: Tensor,
        sums: Option<Tensor>,
        then: Then,
        mode: Mode,
    ) -> Result<(Input, BatchNormMemory)> {
        let statistics = self.running.statistics(&xs, sums, mode, self.collective.as_ref())?;
        self.apply(xs, statistics, then)
    }

    /// The output of [`forward`](Self::forward), in the memory of `xs` where that can be, and the statistics alone: with
    /// them, [`apply`](Self::apply) gives the rest once more.
    pub fn forward_and_forget(
        &self,
        xs: Tensor,
        sums: Option<Tensor>,
        then: Then,
        mode: Mode,
    ) -> Result<(Input, Statistics)> {
        let statistics = self.running.statistics(&xs, sums, mode, self.collective.as_ref())?;
        let Rectifier { scale, shift } = self.rectifier(&statistics, xs.dtype())?;
        if let Then::ReluAndConvolution = then {
            return Ok((Input { values: xs, rectifier: Some(Rectifier { scale, shift }) }, statistics));
        }
        let ys = kernels::batch_norm_apply_in_place(xs, &scale, &shift, then.residual(), then.is_relu())?;
        Ok((ys.into(), statistics))
    }

    /// Scale and shift of the input.
    fn rectifier(&self, statistics: &Statistics, dtype: DType) -> Result<Rectifier> {
        let (weight, bias) = (self.weight.1.as_detached_tensor(), self.bias.1.as_detached_tensor());
        let (scale, shift) = statistics.affine(Some(&weight), Some(&bias))?;
        Ok(Rectifier { scale: scale.to_dtype(dtype)?, shift: shift.to_dtype(dtype)? })
    }

    /// [`forward`](Self::forward) with statistics that are known: nothing running changes.
    pub fn apply(&self, xs: Tensor, statistics: Statistics, then: Then) -> Result<(Input, BatchNormMemory)> {
        let rectifier = self.rectifier(&statistics, xs.dtype())?;
        if let Then::ReluAndConvolution = then {
            let input = Input { values: xs.clone(), rectifier: Some(rectifier.clone()) };
            return Ok((input, BatchNormMemory { xs, rectifier: Some(rectifier), statistics }));
        }
        let Rectifier { scale, shift } = &rectifier;
        let ys = kernels::batch_norm_apply(&xs, scale, shift, then.residual(), then.is_relu())?;
        Ok((ys.into(), BatchNormMemory::without_output(xs, statistics)))
    }

    /// Records the gradients of weight and bias and returns that of the input, in whose memory it lies where that can be.
    /// `dys` is the gradient of what the norm gives; where a residual was added, that of the sum, which is the residual's too;
    /// where a ReLU and a convolution follow, that of the convolution's input. What stands before a ReLU comes from
    /// [`kernels::relu_backward`] or [`kernels::conv2d_backward_data_before_relu`].
    pub fn backward(&self, memory: BatchNormMemory, dys: &Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let BatchNormMemory { xs, rectifier, statistics } = memory;
        let (dtype, rectifier, weight) = (xs.dtype(), rectifier.as_ref(), self.weight.1.as_detached_tensor());
        let (sums, [scale, slope, offset]) =
            statistics.way_back(dys, rectifier, &xs, Some(&weight), self.collective.as_ref())?;
        gradients.insert(&self.bias.0, sums.get(0)?.to_dtype(dtype)?)?;
        gradients.insert(&self.weight.0, sums.get(1)?.to_dtype(dtype)?)?;
        Ok(kernels::batch_norm_backward_in_place(dys, rectifier, xs, [&scale, &slope, &offset])?)
    }
}

/// Batch norm over `[batch, features]`, in candle's automatic differentiation: for heads.
#[derive(Clone)]
pub struct BatchNorm1d {
    affine: Option<(Var, Var)>,
    running: Running,
    collective: SharedCollective,
}

impl BatchNorm1d {
    /// Creates the running statistics and, if `affine`, `weight` (1) and `bias` (0), `[features]` each.
    pub fn new(features: usize, affine: bool, collective: &SharedCollective, scope: &mut Scope) -> Result<Self> {
        let mut part = |name, value| scope.parameter(name, features, Init::Constant(value), Role::Other);
        let affine = match affine {
            true => Some((part("weight", 1.0)?, part("bias", 0.0)?)),
            false => None,
        };
        Ok(Self { affine, running: Running::new(features, scope)?, collective: collective.clone() })
    }

    /// xs `[batch, features]` → the same shape, with a ReLU behind it if `relu`.
    pub fn forward(&self, xs: &Tensor, relu: bool, mode: Mode) -> Result<Tensor> {
        let values = xs.detach().contiguous()?;
        let statistics = self.running.statistics(&values, None, mode, self.collective.as_ref())?;
        let parts = self.affine.as_ref().map(|(weight, bias)| (weight.as_detached_tensor(), bias.as_detached_tensor()));
        let (scale, shift) = match &parts {
            Some((weight, bias)) => statistics.affine(Some(weight), Some(bias))?,
            None => statistics.affine(None, None)?,
        };
        let dtype = xs.dtype();
        let rectifier = Rectifier { scale: scale.to_dtype(dtype)?, shift: shift.to_dtype(dtype)? };
        let ys = kernels::batch_norm_apply(&values, &rectifier.scale, &rectifier.shift, None, relu)?;
        let (rectifier, weight) = (relu.then_some(rectifier), parts.map(|(weight, _)| weight));
        let way_back = WayBack { xs: values, rectifier, statistics, weight, collective: self.collective.clone() };
        let Some((weight, bias)) = &self.affine else {
            let backward = move |dys: &Tensor| way_back.gradients(dys).map(|(dxs, _)| dxs);
            return Ok(hand_written(xs, &ys, move |dys| backward(dys).map_err(candle_core::Error::wrap))?);
        };
        let ids = (weight.id(), bias.id());
        Ok(hand_written_of_three([xs, weight, bias], &ys, move |dys| {
            let (dxs, sums) = way_back.gradients(dys).map_err(candle_core::Error::wrap)?;
            let sum = |row: usize| sums.get(row)?.to_dtype(dtype);
            Ok((Some(dxs), collect(ids.0, sum(1)?)?, collect(ids.1, sum(0)?)?))
        })?)
    }
}

/// What a [`BatchNorm1d`]'s way back needs.
struct WayBack {
    xs: Tensor,
    rectifier: Option<Rectifier>,
    statistics: Statistics,
    weight: Option<Tensor>,
    collective: SharedCollective,
}

impl WayBack {
    /// The gradient of the input; and those of bias and weight, `[2, features]`, in more bits perhaps.
    fn gradients(&self, dys: &Tensor) -> Result<(Tensor, Tensor)> {
        let Self { xs, rectifier, statistics, weight, collective } = self;
        let rectifier = rectifier.as_ref();
        let (sums, [scale, slope, offset]) =
            statistics.way_back(dys, rectifier, xs, weight.as_ref(), collective.as_ref())?;
        Ok((kernels::batch_norm_backward(dys, rectifier, xs, [&scale, &slope, &offset])?, sums))
    }
}
