//! Batch norm as PyTorch's `BatchNorm1d` and `BatchNorm2d`: the biased variance normalizes, the unbiased one updates
//! the running statistics.
//!
//! Per-channel sums of the forward and the backward pass are reduced over the [`Collective`], so that N processes
//! normalize with the statistics of the whole batch (synchronized batch norm).

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use crate::collective::{Collective, SharedCollective};
use crate::nn::collector::collect;
use crate::nn::{Mode, hand_written, hand_written_of_three};
use crate::ops::{self, ChannelStatistics, ConvInput, RunningStatistics, ScaleShiftRelu};
use crate::params::{GradientSink, Init, Role, Scope};
use crate::{Error, Result};

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Element type of the coefficients of each channel, `[C]`, for activations `xs`: f32 for bf16.
fn coefficients_dtype(xs: &Tensor) -> DType {
    if xs.dtype() == DType::BF16 { DType::F32 } else { xs.dtype() }
}

/// Mean and inverse standard deviation of each channel, and the number of values from which they were computed.
#[derive(Clone)]
pub struct Statistics {
    channels: ChannelStatistics,
    count: f64,
    mode: Mode,
}

impl Statistics {
    /// Scale and shift, `[C]` each and of type `dtype`, such that `xs·scale + shift` is the normalized input, with
    /// weight and bias applied if they are given.
    fn affine(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, dtype: DType) -> Result<ScaleShiftRelu> {
        Ok(ops::batch_norm_affine(&self.channels, weight, bias, dtype)?)
    }

    /// Sums of [`ops::batch_norm_backward_sums`], `[2, C]`, which are the gradients of bias and weight, and the
    /// [coefficients](ops::batch_norm_coefficients) of the input's gradient, which is linear in the output's gradient
    /// and the input.
    ///
    /// The means are over the whole batch, from the sums of all processes; they are 0 in evaluation mode, where the
    /// statistics do not depend on the batch. Scale, slope and offset are `[C]` each, of the input's type, or f32 for
    /// bf16.
    fn backward(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        weight: Option<&Tensor>,
        collective: &dyn Collective,
    ) -> Result<(Tensor, [Tensor; 3])> {
        let dtype = coefficients_dtype(xs);
        let ChannelStatistics { mean, inverse_std } = &self.channels;
        let (mean, inverse_std) = (mean.to_dtype(dtype)?, inverse_std.to_dtype(dtype)?);
        let sums = ops::batch_norm_backward_sums(dys, activation, xs, &mean, &inverse_std)?;
        let coefficients = match self.mode {
            Mode::Train | Mode::TrainFrozenStats => {
                let of_all = collective.all_reduce_sum(&sums)?;
                ops::batch_norm_coefficients(&self.channels, weight, Some((&of_all, self.count)), dtype)?
            }
            Mode::Eval => ops::batch_norm_coefficients(&self.channels, weight, None, dtype)?,
        };
        Ok((sums, coefficients))
    }
}

/// Running statistics and their update.
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

    /// Statistics for xs `[N, C, …]`; `sums` are its [`ops::batch_norm_sums`] if they are known.
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
                let channels = ChannelStatistics { mean: self.mean.as_detached_tensor(), inverse_std };
                Ok(Statistics { channels, count: 1.0, mode })
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
        let sums = collective.all_reduce_sum(&sums)?;
        let running = (mode == Mode::Train).then_some(RunningStatistics {
            mean: &self.mean,
            variance: &self.variance,
            momentum: MOMENTUM,
        });
        let channels = ops::batch_norm_statistics(xs, &sums, count, EPSILON, running)?;
        if mode == Mode::Train {
            self.batches.set(&(self.batches.as_detached_tensor() + 1.0)?)?;
        }
        Ok(Statistics { channels, count, mode })
    }
}

/// Batch norm over `[N, C, H, W]`, fused with the residual addition and the ReLU that may follow it.
#[derive(Clone)]
pub struct BatchNorm {
    weight: (Arc<str>, Var),
    bias: (Arc<str>, Var),
    running: Running,
    collective: SharedCollective,
}

/// Saved activations of a batch norm: its input, whose memory the backward pass reuses, and its statistics.
pub struct SavedBatchNorm {
    xs: Tensor,
    /// Fused activation that the norm's own backward pass includes.
    activation: Option<ScaleShiftRelu>,
    statistics: Statistics,
}

impl SavedBatchNorm {
    /// Saved activations of a pass whose output is not needed, and whose ReLU, if any, is not part of the norm's
    /// backward pass. xs `[N, C, H, W]` is the norm's input.
    pub fn without_output(xs: Tensor, statistics: Statistics) -> Self {
        Self { xs, activation: None, statistics }
    }
}

/// Operations fused into the output of a batch norm.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// No operation.
    Identity,
    /// A ReLU whose backward pass belongs to the next layer, which reads its output.
    Relu,
    /// A ReLU before a convolution that applies norm and ReLU to its own input. The ReLU's backward pass belongs to the
    /// norm.
    ReluIntoConvolution,
    /// The addition of a residual `[N, C, H, W]`, then a ReLU as in [`Relu`](Self::Relu).
    AddRelu(&'a Tensor),
}

impl<'a> Epilogue<'a> {
    /// The residual that is added, if any.
    fn residual(self) -> Option<&'a Tensor> {
        if let Self::AddRelu(residual) = self { Some(residual) } else { None }
    }

    fn has_relu(self) -> bool {
        !matches!(self, Self::Identity)
    }
}

impl BatchNorm {
    /// Creates `weight` (filled with `scale`), `bias` (0) and the running statistics, `[channels]` each.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(channels: usize, scale: f64, collective: &SharedCollective, scope: &mut Scope) -> Result<Self> {
        let mut part = |name: &str, value| -> Result<(Arc<str>, Var)> {
            let var = scope.parameter(name, channels, Init::Constant(value), Role::Other)?;
            Ok((scope.full(name).into(), var))
        };
        let (weight, bias) = (part("weight", scale)?, part("bias", 0.0)?);
        Ok(Self { weight, bias, running: Running::new(channels, scope)?, collective: collective.clone() })
    }

    /// Norm and epilogue of xs `[N, C, H, W]`, and the saved activations for the backward pass. `sums` `[2, C]` are the
    /// [`ops::batch_norm_sums`] of `xs` if they are known.
    ///
    /// The backward pass overwrites `xs`. Until then, no other tensor may share its memory, except the input of a
    /// convolution after [`Epilogue::ReluIntoConvolution`], whose backward pass runs first.
    ///
    /// # Errors
    ///
    /// If a training mode has only one value per channel, or the collective or a tensor operation fails.
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

    /// Output of [`forward`](Self::forward), in the memory of `xs` if possible, and the statistics alone, from which
    /// [`apply`](Self::apply) recomputes the rest (activation checkpointing).
    ///
    /// # Errors
    ///
    /// Those of `forward`.
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

    /// Scale and shift of the input, `[C]` each, of type `dtype`.
    fn activation(&self, statistics: &Statistics, dtype: DType) -> Result<ScaleShiftRelu> {
        let (weight, bias) = (self.weight.1.as_detached_tensor(), self.bias.1.as_detached_tensor());
        statistics.affine(Some(&weight), Some(&bias), dtype)
    }

    /// [`forward`](Self::forward) with given statistics; running statistics are not updated.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
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

    /// Adds the gradients of weight and bias to `gradients` and returns that of the input, `[N, C, H, W]`, in the
    /// input's memory if possible.
    ///
    /// `dys` `[N, C, H, W]` is the gradient of the output before its ReLU, as computed by [`ops::relu_backward`] and
    /// [`ops::conv2d_backward_data_relu`]; it is also the gradient of a residual. After
    /// [`Epilogue::ReluIntoConvolution`], it is the gradient of the convolution's input.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or the collective or a tensor operation fails.
    pub fn backward(&self, saved: SavedBatchNorm, dys: &Tensor, gradients: &mut dyn GradientSink) -> Result<Tensor> {
        let SavedBatchNorm { xs, activation, statistics } = saved;
        let (activation, weight) = (activation.as_ref(), self.weight.1.as_detached_tensor());
        let (sums, [scale, slope, offset]) =
            statistics.backward(dys, activation, &xs, Some(&weight), self.collective.as_ref())?;
        let sums = sums.to_dtype(weight.dtype())?;
        gradients.insert(&self.bias.0, sums.get(0)?)?;
        gradients.insert(&self.weight.0, sums.get(1)?)?;
        Ok(ops::batch_norm_backward_in_place(dys, activation, xs, [&scale, &slope, &offset])?)
    }
}

/// Batch norm over `[batch, features]` in candle's autograd, for heads.
#[derive(Clone)]
pub struct BatchNorm1d {
    affine: Option<(Var, Var)>,
    running: Running,
    collective: SharedCollective,
}

impl BatchNorm1d {
    /// Creates the running statistics and, if `affine`, `weight` (1) and `bias` (0), `[features]` each.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(features: usize, affine: bool, collective: &SharedCollective, scope: &mut Scope) -> Result<Self> {
        let mut part = |name, value| scope.parameter(name, features, Init::Constant(value), Role::Other);
        let affine = match affine {
            true => Some((part("weight", 1.0)?, part("bias", 0.0)?)),
            false => None,
        };
        Ok(Self { affine, running: Running::new(features, scope)?, collective: collective.clone() })
    }

    /// xs `[batch, features]` → normalized xs of the same shape, followed by a ReLU if `relu`.
    ///
    /// # Errors
    ///
    /// If a training mode has a batch of only one row, or the collective or a tensor operation fails.
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
            return Ok(hand_written(xs, &ys, move |dys| of_input(dys).map_err(Error::into_candle))?);
        };
        let ids = (weight.id(), bias.id());
        Ok(hand_written_of_three([xs, weight, bias], &ys, move |dys| {
            let (dxs, sums) = backward.gradients(dys).map_err(Error::into_candle)?;
            let sums = sums.to_dtype(dtype)?;
            Ok((Some(dxs), collect(ids.0, sums.get(1)?)?, collect(ids.1, sums.get(0)?)?))
        })?)
    }
}

/// Backward pass of a [`BatchNorm1d`] with its saved activations.
struct Backward {
    xs: Tensor,
    activation: Option<ScaleShiftRelu>,
    statistics: Statistics,
    weight: Option<Tensor>,
    collective: SharedCollective,
}

impl Backward {
    /// Gradients of the input, `[batch, features]`, and of bias and weight, `[2, features]`, which may have a wider
    /// type.
    fn gradients(&self, dys: &Tensor) -> Result<(Tensor, Tensor)> {
        let Self { xs, activation, statistics, weight, collective } = self;
        let activation = activation.as_ref();
        let (sums, [scale, slope, offset]) =
            statistics.backward(dys, activation, xs, weight.as_ref(), collective.as_ref())?;
        Ok((ops::batch_norm_backward(dys, activation, xs, [&scale, &slope, &offset])?, sums))
    }
}
