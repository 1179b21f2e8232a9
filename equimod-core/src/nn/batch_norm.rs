//! Batch norm: biased variance to normalize, unbiased into the running statistics (PyTorch's `BatchNorm1d/2d`).
//!
//! Forward and backward are split at their per-channel sums, which go through the [`Collective`]: N processes
//! normalize with the statistics of the whole batch.

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use crate::collective::{Collective, SharedCollective};
use crate::nn::collector::collect;
use crate::nn::{Mode, hand_written, hand_written_of_three};
use crate::ops::{self, ConvInput, ScaleShiftRelu};
use crate::params::{Gradients, Init, Role, Scope};
use crate::{Error, Result};

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Element type of the coefficients of each channel, `[C]`, for activations `xs`: f32 for bf16.
fn coefficients_dtype(xs: &Tensor) -> DType {
    if xs.dtype() == DType::BF16 { DType::F32 } else { xs.dtype() }
}

/// Mean and inverse standard deviation of each channel, `[C]` each, and the number of values behind them.
#[derive(Clone)]
pub struct Statistics {
    mean: Tensor,
    inverse_std: Tensor,
    count: f64,
    mode: Mode,
}

impl Statistics {
    /// σ⁻¹, times the weight where there is one, `[C]`.
    fn scale(&self, weight: Option<&Tensor>) -> Result<Tensor> {
        match weight {
            Some(weight) => Ok((&self.inverse_std * weight.to_dtype(self.mean.dtype())?)?),
            None => Ok(self.inverse_std.clone()),
        }
    }

    /// Scale and shift, `[C]` each and of type `dtype`: `xs·scale + shift` is the normalized input, times the weight
    /// and plus the bias where they are given.
    fn affine(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, dtype: DType) -> Result<ScaleShiftRelu> {
        let scale = self.scale(weight)?;
        let shift = (&self.mean * &scale)?.neg()?;
        let shift = match bias {
            Some(bias) => (shift + bias.to_dtype(self.mean.dtype())?)?,
            None => shift,
        };
        Ok(ScaleShiftRelu { scale: scale.to_dtype(dtype)?, shift: shift.to_dtype(dtype)? })
    }

    /// The sums of [`ops::batch_norm_backward_sums`], `[2, C]`, which are the gradients of bias and weight, and the
    /// coefficients of the input's gradient, which is linear in the output's and in the input:
    ///
    /// `dx = weight·σ⁻¹·(dy − mean(dy) − x̂·mean(dy·x̂)) = scale·dy + slope·x + offset`
    ///
    /// with means over the whole batch, from every process's sums, and zero where the statistics did not depend on the
    /// batch. Scale, slope and offset are `[C]` each, of the input's type, or f32 for bf16.
    fn backward(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        weight: Option<&Tensor>,
        collective: &dyn Collective,
    ) -> Result<(Tensor, [Tensor; 3])> {
        let dtype = coefficients_dtype(xs);
        let (mean, inverse_std) = (self.mean.to_dtype(dtype)?, self.inverse_std.to_dtype(dtype)?);
        let sums = ops::batch_norm_backward_sums(dys, activation, xs, &mean, &inverse_std)?;
        let means = match self.mode {
            Mode::Train | Mode::TrainFrozenStats => (collective.all_reduce_sum(&sums)? / self.count)?,
            // Sums may have more bits than running statistics.
            Mode::Eval => sums.zeros_like()?.to_dtype(self.mean.dtype())?,
        };
        let (mean_dy, mean_dy_xhat) = (means.get(0)?, means.get(1)?);
        let scale = self.scale(weight)?;
        let slope = ((&scale * &self.inverse_std)? * mean_dy_xhat)?.neg()?;
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

    /// Statistics for xs `[N, C, …]`, whose [`ops::batch_norm_sums`] may be known already.
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
                let inverse_std = (self.variance.as_tensor() + EPSILON)?.sqrt()?.recip()?.detach();
                Ok(Statistics { mean: self.mean.as_detached_tensor(), inverse_std, count: 1.0, mode })
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
        let count = xs.elem_count() / xs.dim(1)? * collective.size();
        if count < 2 {
            return Err(Error::fewer_than_two("batch norm in training", "values per channel", count));
        }
        let count = count as f64;
        let sums = sums.map_or_else(|| ops::batch_norm_sums(xs), Ok)?;
        let means = (collective.all_reduce_sum(&sums)? / count)?;
        let mean = means.get(0)?;
        let variance = (means.get(1)? - mean.sqr()?)?.relu()?;
        if mode == Mode::Train {
            self.update(&mean, &(&variance * (count / (count - 1.0)))?)?;
        }
        let inverse_std = (variance + EPSILON)?.sqrt()?.recip()?;
        Ok(Statistics { mean, inverse_std, count, mode })
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

/// Batch norm over `[N, C, H, W]`, with the ReLU and the residual addition that may follow it.
#[derive(Clone)]
pub struct BatchNorm {
    weight: (Arc<str>, Var),
    bias: (Arc<str>, Var),
    running: Running,
    collective: SharedCollective,
}

/// Saved activations of a batch norm: its input, whose memory the backward pass uses, and its statistics.
pub struct SavedBatchNorm {
    xs: Tensor,
    /// The activation through which the backward pass of the norm still has to go.
    activation: Option<ScaleShiftRelu>,
    statistics: Statistics,
}

impl SavedBatchNorm {
    /// Saved activations of a pass whose output nobody needs, and whose ReLU, if it had one, is not the norm's to go
    /// back through.
    pub fn without_output(xs: Tensor, statistics: Statistics) -> Self {
        Self { xs, activation: None, statistics }
    }
}

/// Operations fused behind a batch norm.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// None.
    Identity,
    /// A ReLU, whose backward pass belongs to the layer that reads its output.
    Relu,
    /// A ReLU in front of a convolution that can take the input of both. Its backward pass belongs to the norm.
    ReluIntoConvolution,
    /// The addition of a residual `[N, C, H, W]`, and a ReLU as in [`Relu`](Self::Relu).
    AddRelu(&'a Tensor),
}

impl<'a> Epilogue<'a> {
    /// The tensor that is added.
    fn residual(self) -> Option<&'a Tensor> {
        if let Self::AddRelu(residual) = self { Some(residual) } else { None }
    }

    fn has_relu(self) -> bool {
        !matches!(self, Self::Identity)
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

    /// Norm and epilogue of xs `[N, C, H, W]`, and the activations that the backward pass needs; `sums` are the
    /// [`ops::batch_norm_sums`] of `xs`, where they are known.
    ///
    /// The backward pass overwrites `xs`: until then no other tensor may share its memory but the input of a
    /// convolution behind [`Epilogue::ReluIntoConvolution`], which has been used by then.
    pub fn forward(
        &self,
        xs: Tensor,
        sums: Option<Tensor>,
        epilogue: Epilogue,
        mode: Mode,
    ) -> Result<(ConvInput, SavedBatchNorm)> {
        let statistics = self.running.statistics(&xs, sums, mode, self.collective.as_ref())?;
        self.apply(xs, statistics, epilogue)
    }

    /// The output of [`forward`](Self::forward), in the memory of `xs` where possible, and the statistics alone: with
    /// them [`apply`](Self::apply) computes the rest again.
    pub fn forward_without_saving(
        &self,
        xs: Tensor,
        sums: Option<Tensor>,
        epilogue: Epilogue,
        mode: Mode,
    ) -> Result<(ConvInput, Statistics)> {
        let statistics = self.running.statistics(&xs, sums, mode, self.collective.as_ref())?;
        let activation = self.activation(&statistics, coefficients_dtype(&xs))?;
        if let Epilogue::ReluIntoConvolution = epilogue {
            return Ok((ConvInput { values: xs, activation: Some(activation) }, statistics));
        }
        let ScaleShiftRelu { scale, shift } = &activation;
        let ys = ops::batch_norm_apply_in_place(xs, scale, shift, epilogue.residual(), epilogue.has_relu())?;
        Ok((ys.into(), statistics))
    }

    /// Scale and shift of the input, of type `dtype`.
    fn activation(&self, statistics: &Statistics, dtype: DType) -> Result<ScaleShiftRelu> {
        let (weight, bias) = (self.weight.1.as_detached_tensor(), self.bias.1.as_detached_tensor());
        statistics.affine(Some(&weight), Some(&bias), dtype)
    }

    /// [`forward`](Self::forward) with known statistics; running statistics stay as they are.
    pub fn apply(&self, xs: Tensor, statistics: Statistics, epilogue: Epilogue) -> Result<(ConvInput, SavedBatchNorm)> {
        let activation = self.activation(&statistics, coefficients_dtype(&xs))?;
        if let Epilogue::ReluIntoConvolution = epilogue {
            let input = ConvInput { values: xs.clone(), activation: Some(activation.clone()) };
            return Ok((input, SavedBatchNorm { xs, activation: Some(activation), statistics }));
        }
        let ScaleShiftRelu { scale, shift } = &activation;
        let ys = ops::batch_norm_apply(&xs, scale, shift, epilogue.residual(), epilogue.has_relu())?;
        Ok((ys.into(), SavedBatchNorm::without_output(xs, statistics)))
    }

    /// Records the gradients of weight and bias and returns that of the input, `[N, C, H, W]`, in the input's memory
    /// where possible.
    ///
    /// `dys` is the gradient of the norm's output before its ReLU, which [`ops::relu_backward`] and
    /// [`ops::conv2d_backward_data_relu`] give; with a residual it is the residual's gradient too. Behind
    /// [`Epilogue::ReluIntoConvolution`] it is the gradient of the convolution's input.
    pub fn backward(&self, saved: SavedBatchNorm, dys: &Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let SavedBatchNorm { xs, activation, statistics } = saved;
        let (activation, weight) = (activation.as_ref(), self.weight.1.as_detached_tensor());
        let (sums, [scale, slope, offset]) =
            statistics.backward(dys, activation, &xs, Some(&weight), self.collective.as_ref())?;
        gradients.insert(&self.bias.0, sums.get(0)?.to_dtype(weight.dtype())?)?;
        gradients.insert(&self.weight.0, sums.get(1)?.to_dtype(weight.dtype())?)?;
        Ok(ops::batch_norm_backward_in_place(dys, activation, xs, [&scale, &slope, &offset])?)
    }
}

/// Batch norm over `[batch, features]` in candle's automatic differentiation: for heads.
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
        let dtype = xs.dtype();
        let activation = match &parts {
            Some((weight, bias)) => statistics.affine(Some(weight), Some(bias), dtype)?,
            None => statistics.affine(None, None, dtype)?,
        };
        let ys = ops::batch_norm_apply(&values, &activation.scale, &activation.shift, None, relu)?;
        let (activation, weight) = (relu.then_some(activation), parts.map(|(weight, _)| weight));
        let backward = Backward { xs: values, activation, statistics, weight, collective: self.collective.clone() };
        let Some((weight, bias)) = &self.affine else {
            let of_input = move |dys: &Tensor| backward.gradients(dys).map(|(dxs, _)| dxs);
            return Ok(hand_written(xs, &ys, move |dys| of_input(dys).map_err(candle_core::Error::wrap))?);
        };
        let ids = (weight.id(), bias.id());
        Ok(hand_written_of_three([xs, weight, bias], &ys, move |dys| {
            let (dxs, sums) = backward.gradients(dys).map_err(candle_core::Error::wrap)?;
            let sum = |row: usize| sums.get(row)?.to_dtype(dtype);
            Ok((Some(dxs), collect(ids.0, sum(1)?)?, collect(ids.1, sum(0)?)?))
        })?)
    }
}

/// The backward pass of a [`BatchNorm1d`] and its saved activations.
struct Backward {
    xs: Tensor,
    activation: Option<ScaleShiftRelu>,
    statistics: Statistics,
    weight: Option<Tensor>,
    collective: SharedCollective,
}

impl Backward {
    /// The gradient of the input, `[batch, features]`, and those of bias and weight, `[2, features]`, which may have
    /// more bits.
    fn gradients(&self, dys: &Tensor) -> Result<(Tensor, Tensor)> {
        let Self { xs, activation, statistics, weight, collective } = self;
        let activation = activation.as_ref();
        let (sums, [scale, slope, offset]) =
            statistics.backward(dys, activation, xs, weight.as_ref(), collective.as_ref())?;
        Ok((ops::batch_norm_backward(dys, activation, xs, [&scale, &slope, &offset])?, sums))
    }
}
