//! Batch norm over tensors `[N, C, …]`, fused with a residual addition and a ReLU.

use candle_core::{Result, Tensor};

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

/// Forward and backward pass of batch norm, split at the sums over the batch, which are reduced over processes.
///
/// Sums are in f64 on the CPU and in f32 elsewhere; per-channel arguments have the element type of `xs`.
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
}
