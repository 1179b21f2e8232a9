//! Batch norm over tensors `[N, C, …]`, the ReLU behind it and the additions around it.

use candle_core::{Result, Tensor};

/// A batch norm and the ReLU behind it as one function, `relu(xs·scale + shift)`.
///
/// Gradients pass the ReLU where `xs·scale + shift` is above 0, so that its output need not be kept.
#[derive(Clone, Debug)]
pub struct ScaleShiftRelu {
    /// Factor of each channel, `[C]`.
    pub scale: Tensor,
    /// Summand of each channel, `[C]`.
    pub shift: Tensor,
}

/// Batch norm, forward and backward, split at its sums over a batch so that processes can add theirs.
///
/// Sums are in f64 on the CPU and in f32 elsewhere; per-channel arguments have the element type of `xs`.
pub trait BatchNormOps {
    /// Σx and Σx² of each channel of xs `[N, C, …]`, `[2, C]`.
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor>;

    /// `relu?(xs·scale + shift + residual?)` with scale and shift `[C]`; the residual and the result have the shape of
    /// `xs`.
    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor>;

    /// Σdy and Σdy·x̂ of each channel, `[2, C]`, with `x̂ = (xs − mean)·inverse_std`; mean and inverse_std are `[C]`.
    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor>;

    /// `scale·dys + slope·xs + offset` with `coefficients` scale, slope and offset, `[C]` each.
    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor>;

    /// `(dys + more?)·[ys > 0]`, the gradient of a ReLU's input where `ys` is its output; all of one shape.
    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor>;

    /// [`batch_norm_apply`](Self::batch_norm_apply), which may use the memory of `xs`: no other tensor shares it.
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

    /// [`relu_backward`](Self::relu_backward), which may use the memory of `dys`: no other tensor shares it.
    fn relu_backward_in_place(&self, dys: Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        self.relu_backward(&dys, more, ys)
    }

    /// `relu(xs·scale + shift)`, of the shape of `xs`.
    fn scale_shift_relu(&self, xs: &Tensor, activation: &ScaleShiftRelu) -> Result<Tensor> {
        self.batch_norm_apply(xs, &activation.scale, &activation.shift, None, true)
    }

    /// The gradient of the activation's input before scale and shift: `dys` where the ReLU was above 0.
    fn through_activation(&self, dys: &Tensor, activation: Option<&ScaleShiftRelu>, xs: &Tensor) -> Result<Tensor> {
        match activation {
            Some(activation) => self.relu_backward(dys, None, &self.scale_shift_relu(xs, activation)?),
            None => Ok(dys.clone()),
        }
    }

    /// [`batch_norm_backward_sums`](Self::batch_norm_backward_sums) where `dys` is the gradient behind the activation.
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

    /// [`batch_norm_backward`](Self::batch_norm_backward) where `dys` is the gradient behind the activation.
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

    /// [`activated_backward`](Self::activated_backward), which may use the memory of `xs`: no other tensor shares it.
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
