//! Batch norm: biased variance to normalise, unbiased into the running statistics (PyTorch's `BatchNorm1d/2d`).
//!
//! Forward and backward are split at their per-channel sums, which go through the [`Collective`]: N processes
//! normalise with the statistics of the whole batch.

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use crate::collective::{Collective, SharedCollective};
use crate::kernels;
use crate::nn::{Mode, hand_written};
use crate::params::{Init, Role, Scope};
use crate::tape::Gradients;
use crate::{Error, Result};

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Mean and inverse deviation per channel, `[channels]` each, and how many values they were taken over.
#[derive(Clone)]
struct Statistics {
    mean: Tensor,
    inverse_deviation: Tensor,
    count: f64,
    mode: Mode,
}

impl Statistics {
    /// `(scale, shift)` so that `xs·scale + shift` is the normalised, and where given scaled and shifted, input.
    fn affine(&self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let scale = match weight {
            Some(weight) => (&self.inverse_deviation * weight.to_dtype(self.mean.dtype())?)?,
            None => self.inverse_deviation.clone(),
        };
        let shift = (&self.mean * &scale)?.neg()?;
        let shift = match bias {
            Some(bias) => (shift + bias.to_dtype(self.mean.dtype())?)?,
            None => shift,
        };
        Ok((scale, shift))
    }

    /// Means of dy and of dy·x̂ over the whole batch, from this process's sums `[2, channels]`; zero where the
    /// statistics did not depend on the batch.
    fn gradient_means(&self, sums: &Tensor, collective: &dyn Collective) -> Result<(Tensor, Tensor)> {
        let means = match self.mode {
            Mode::Train => (collective.all_reduce_sum(sums)? / self.count)?,
            Mode::Eval => sums.zeros_like()?,
        };
        Ok((means.get(0)?, means.get(1)?))
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

    fn statistics(&self, xs: &Tensor, mode: Mode, collective: &dyn Collective) -> Result<Statistics> {
        match mode {
            Mode::Train => self.of_batch(xs, collective),
            Mode::Eval => {
                let inverse_deviation = (self.variance.as_tensor() + EPSILON)?.sqrt()?.recip()?.detach();
                Ok(Statistics { mean: self.mean.as_detached_tensor(), inverse_deviation, count: 1.0, mode })
            }
        }
    }

    fn of_batch(&self, xs: &Tensor, collective: &dyn Collective) -> Result<Statistics> {
        let count = (xs.elem_count() / xs.dim(1)? * collective.size()) as f64;
        if count < 2.0 {
            let text = "batch norm in training needs more than one value per channel; use a larger batch or picture";
            return Err(Error::Config(text.into()));
        }
        let means = (collective.all_reduce_sum(&kernels::batch_norm_sums(xs)?)? / count)?;
        let mean = means.get(0)?;
        let variance = (means.get(1)? - mean.sqr()?)?.relu()?;
        self.update(&mean, &(&variance * (count / (count - 1.0)))?)?;
        let inverse_deviation = (variance + EPSILON)?.sqrt()?.recip()?;
        Ok(Statistics { mean, inverse_deviation, count, mode: Mode::Train })
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

/// What batch norm remembers: its input, the output if a ReLU was applied, and the statistics.
pub struct BatchNormMemory {
    xs: Tensor,
    rectified: Option<Tensor>,
    statistics: Statistics,
    residual: bool,
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

    /// `relu?(norm(xs) + residual?)`, all of the shape of `xs`.
    pub fn forward(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        mode: Mode,
    ) -> Result<(Tensor, BatchNormMemory)> {
        let statistics = self.running.statistics(xs, mode, self.collective.as_ref())?;
        let (weight, bias) = (self.weight.1.as_detached_tensor(), self.bias.1.as_detached_tensor());
        let (scale, shift) = statistics.affine(Some(&weight), Some(&bias))?;
        let dtype = xs.dtype();
        let ys = kernels::batch_norm_apply(xs, &scale.to_dtype(dtype)?, &shift.to_dtype(dtype)?, residual, relu)?;
        let rectified = relu.then(|| ys.clone());
        Ok((ys, BatchNormMemory { xs: xs.clone(), rectified, statistics, residual: residual.is_some() }))
    }

    /// Records the gradients of weight and bias; returns those of the input and of the residual, if there was one.
    pub fn backward(
        &self,
        memory: BatchNormMemory,
        dys: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let BatchNormMemory { xs, rectified, statistics, residual } = memory;
        let (dtype, rectified) = (xs.dtype(), rectified.as_ref());
        let mean = statistics.mean.to_dtype(dtype)?;
        let inverse_deviation = statistics.inverse_deviation.to_dtype(dtype)?;
        let sums = kernels::batch_norm_backward_sums(dys, rectified, &xs, &mean, &inverse_deviation)?;
        gradients.insert(&self.bias.0, sums.get(0)?.to_dtype(dtype)?)?;
        gradients.insert(&self.weight.0, sums.get(1)?.to_dtype(dtype)?)?;
        let (mean_dy, mean_dy_xhat) = statistics.gradient_means(&sums, self.collective.as_ref())?;
        let weight = self.weight.1.as_detached_tensor();
        Ok(kernels::batch_norm_backward(
            dys,
            rectified,
            &xs,
            &mean,
            &inverse_deviation,
            Some(&weight),
            &mean_dy.to_dtype(dtype)?,
            &mean_dy_xhat.to_dtype(dtype)?,
            residual,
        )?)
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

    /// xs `[batch, features]` → the same shape.
    pub fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let values = xs.detach().contiguous()?;
        let statistics = self.running.statistics(&values, mode, self.collective.as_ref())?;
        let normalised = self.normalise(xs, values, statistics)?;
        match &self.affine {
            Some((weight, bias)) => Ok(normalised.broadcast_mul(weight)?.broadcast_add(bias)?),
            None => Ok(normalised),
        }
    }

    fn normalise(&self, xs: &Tensor, values: Tensor, statistics: Statistics) -> Result<Tensor> {
        let dtype = xs.dtype();
        let (scale, shift) = statistics.affine(None, None)?;
        let output = kernels::batch_norm_apply(&values, &scale.to_dtype(dtype)?, &shift.to_dtype(dtype)?, None, false)?;
        let collective = self.collective.clone();
        let backward = move |dys: &Tensor| {
            normalised_backward(dys, &values, &statistics, collective.as_ref()).map_err(candle_core::Error::wrap)
        };
        Ok(hand_written(xs, &output, backward)?)
    }
}

fn normalised_backward(
    dys: &Tensor,
    xs: &Tensor,
    statistics: &Statistics,
    collective: &dyn Collective,
) -> Result<Tensor> {
    let dtype: DType = xs.dtype();
    let (mean, inverse_deviation) = (statistics.mean.to_dtype(dtype)?, statistics.inverse_deviation.to_dtype(dtype)?);
    let sums = kernels::batch_norm_backward_sums(dys, None, xs, &mean, &inverse_deviation)?;
    let (mean_dy, mean_dy_xhat) = statistics.gradient_means(&sums, collective)?;
    let (mean_dy, mean_dy_xhat) = (mean_dy.to_dtype(dtype)?, mean_dy_xhat.to_dtype(dtype)?);
    let (dxs, _) =
        kernels::batch_norm_backward(dys, None, xs, &mean, &inverse_deviation, None, &mean_dy, &mean_dy_xhat, false)?;
    Ok(dxs)
}
