//! Batch norm over tensors `[N, C, …]`, fused with a residual addition and a ReLU.

use candle_core::{DType, Result, Tensor, Var};

/// A batch norm and the ReLU after it as one function, `relu(xs·scale + shift)`.
///
/// Its backward pass recomputes the mask `xs·scale + shift > 0`, so that the output need not be saved.
#[derive(Clone, Debug)]
pub struct ScaleShiftRelu {
    /// Scale of each channel, `[C]`.
    pub scale: Tensor,
    /// Shift of each channel, `[C]`.
    pub shift: Tensor,
}

/// Mean and inverse standard deviation of each channel, `[C]` each.
#[derive(Clone, Debug)]
pub struct ChannelStatistics {
    /// Mean.
    pub mean: Tensor,
    /// `1/√(variance + ε)` of the biased variance.
    pub inverse_std: Tensor,
}

/// Running statistics of a batch norm, `[C]` each, and the momentum of their update.
#[derive(Clone, Copy, Debug)]
pub struct RunningStatistics<'a> {
    /// Running mean.
    pub mean: &'a Var,
    /// Running variance, of unbiased variances of batches.
    pub variance: &'a Var,
    /// Share of the batch in the update.
    pub momentum: f64,
}

/// Forward and backward pass of batch norm, split at the sums over the batch, which are reduced over processes.
///
/// Sums are in f64 on the CPU and CUDA devices and in f32 elsewhere; per-channel arguments have the element type of
/// `xs`, or f32 for bf16.
pub trait BatchNormOps {
    /// Σx and Σx² of each channel of xs `[N, C, …]`, `[2, C]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor>;

    /// `relu?(xs·scale + shift + residual?)` with scale and shift `[C]`. The residual and the result have the shape of
    /// xs `[N, C, …]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor>;

    /// Σdy and Σdy·x̂ of each channel, `[2, C]`, with `x̂ = (xs − mean)·inverse_std`, where mean and inverse_std are
    /// `[C]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor>;

    /// `scale·dys + slope·xs + offset`, of the shape of xs `[N, C, …]`, with the `coefficients` scale, slope and
    /// offset, `[C]` each.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor>;

    /// Gradient of the input of a ReLU with output `ys`: `(dys + more?)·[ys > 0]`, all of the same shape.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor>;

    /// [`batch_norm_apply`](Self::batch_norm_apply), whose result may overwrite the memory of `xs`; no other tensor
    /// shares it.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_apply_in_place(
        &self,
        xs: Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        self.batch_norm_apply(&xs, scale, shift, residual, relu)
    }

    /// [`relu_backward`](Self::relu_backward), whose result may overwrite the memory of `dys`; no other tensor shares
    /// it.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn relu_backward_in_place(&self, dys: Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        self.relu_backward(&dys, more, ys)
    }

    /// `relu(xs·scale + shift)`, of the shape of xs `[N, C, …]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn scale_shift_relu(&self, xs: &Tensor, activation: &ScaleShiftRelu) -> Result<Tensor> {
        self.batch_norm_apply(xs, &activation.scale, &activation.shift, None, true)
    }

    /// Gradient `dys` masked by the activation's ReLU: 0 where `xs·scale + shift` is not above 0; same shape.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn through_activation(&self, dys: &Tensor, activation: Option<&ScaleShiftRelu>, xs: &Tensor) -> Result<Tensor> {
        match activation {
            Some(activation) => self.relu_backward(dys, None, &self.scale_shift_relu(xs, activation)?),
            None => Ok(dys.clone()),
        }
    }

    /// [`batch_norm_backward_sums`](Self::batch_norm_backward_sums) for the gradient `dys` of the activation's output.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn activated_backward_sums(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        let dys = self.through_activation(dys, activation, xs)?;
        self.batch_norm_backward_sums(&dys, xs, mean, inverse_std)
    }

    /// [`batch_norm_backward`](Self::batch_norm_backward) for the gradient `dys` of the activation's output.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn activated_backward(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        coefficients: [&Tensor; 3],
    ) -> Result<Tensor> {
        let dys = self.through_activation(dys, activation, xs)?;
        self.batch_norm_backward(&dys, xs, coefficients)
    }

    /// [`activated_backward`](Self::activated_backward), whose result may overwrite the memory of `xs`; no other tensor
    /// shares it.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn activated_backward_in_place(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: Tensor,
        coefficients: [&Tensor; 3],
    ) -> Result<Tensor> {
        self.activated_backward(dys, activation, &xs, coefficients)
    }

    /// Statistics of a batch from the sums `[2, C]` of [`batch_norm_sums`](Self::batch_norm_sums) over `count` values
    /// per channel, and the update of the running statistics, if they are given, with the unbiased variance.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_statistics(
        &self,
        sums: &Tensor,
        count: f64,
        epsilon: f64,
        running: Option<RunningStatistics>,
    ) -> Result<ChannelStatistics> {
        let means = (sums / count)?;
        let mean = means.get(0)?;
        let variance = (means.get(1)? - mean.sqr()?)?.relu()?;
        if let Some(running) = running {
            let unbiased = (&variance * (count / (count - 1.0)))?;
            for (running_value, batch) in [(running.mean, &mean), (running.variance, &unbiased)] {
                let kept = (running_value.as_detached_tensor().to_dtype(batch.dtype())? * (1.0 - running.momentum))?;
                running_value.set(&(kept + (batch * running.momentum)?)?.to_dtype(running_value.dtype())?)?;
            }
        }
        let inverse_std = (variance + epsilon)?.sqrt()?.recip()?;
        Ok(ChannelStatistics { mean, inverse_std })
    }

    /// Scale `inverse_std·weight` and shift `bias − mean·scale`, of type `dtype`, such that `xs·scale + shift` is the
    /// normalized input; without weight and bias, 1 and 0.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_affine(
        &self,
        statistics: &ChannelStatistics,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        dtype: DType,
    ) -> Result<ScaleShiftRelu> {
        let scale = scale(statistics, weight)?;
        let shift = (&statistics.mean * &scale)?.neg()?;
        let shift = match bias {
            Some(bias) => (shift + bias.to_dtype(statistics.mean.dtype())?)?,
            None => shift,
        };
        Ok(ScaleShiftRelu { scale: scale.to_dtype(dtype)?, shift: shift.to_dtype(dtype)? })
    }

    /// Coefficients scale, slope and offset of [`batch_norm_backward`](Self::batch_norm_backward), `[C]` each and of
    /// type `dtype`, from the sums `[2, C]` of [`batch_norm_backward_sums`](Self::batch_norm_backward_sums) over the
    /// given number of values per channel; without sums, for statistics that do not depend on the batch.
    ///
    /// `dx = weight·σ⁻¹·(dy − mean(dy) − x̂·mean(dy·x̂)) = scale·dy + slope·x + offset`
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn batch_norm_coefficients(
        &self,
        statistics: &ChannelStatistics,
        weight: Option<&Tensor>,
        sums: Option<(&Tensor, f64)>,
        dtype: DType,
    ) -> Result<[Tensor; 3]> {
        let means = match sums {
            Some((sums, count)) => (sums / count)?,
            None => statistics.mean.zeros_like()?.repeat((2, 1))?,
        };
        let (mean_dy, mean_dy_xhat) = (means.get(0)?, means.get(1)?);
        let scale = scale(statistics, weight)?;
        let slope = ((&scale * &statistics.inverse_std)? * mean_dy_xhat)?.neg()?;
        let offset = ((&scale * mean_dy)?.neg()? - (&slope * &statistics.mean)?)?;
        Ok([scale.to_dtype(dtype)?, slope.to_dtype(dtype)?, offset.to_dtype(dtype)?])
    }
}

/// Scale σ⁻¹, multiplied by the weight if there is one, `[C]`.
fn scale(statistics: &ChannelStatistics, weight: Option<&Tensor>) -> Result<Tensor> {
    match weight {
        Some(weight) => &statistics.inverse_std * weight.to_dtype(statistics.inverse_std.dtype())?,
        None => Ok(statistics.inverse_std.clone()),
    }
}
