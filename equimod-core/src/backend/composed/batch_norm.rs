//! Batch norm and ReLU with broadcasts over channels.

use candle_core::{D, DType, Result, Tensor};

use super::Composed;
use crate::backend::contract::BatchNormOps;

/// A tensor `[C]`, reshaped to broadcast over `like` `[N, C, …]`.
fn along_channels(values: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; like.rank()];
    dims[1] = values.elem_count();
    values.detach().reshape(dims)
}

/// Sums over all dimensions except the channels, `[C]`, in f32.
fn channel_sum(xs: &Tensor) -> Result<Tensor> {
    xs.to_dtype(DType::F32)?.transpose(0, 1)?.flatten_from(1)?.sum(D::Minus1)
}

impl BatchNormOps for Composed {
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = xs.detach();
        Tensor::stack(&[channel_sum(&xs)?, channel_sum(&xs.sqr()?)?], 0)
    }

    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let scaled = xs.detach().broadcast_mul(&along_channels(scale, xs)?)?;
        let mut ys = scaled.broadcast_add(&along_channels(shift, xs)?)?;
        if let Some(residual) = residual {
            ys = (ys + residual.detach())?;
        }
        if relu { ys.relu() } else { Ok(ys) }
    }

    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        let centered = xs.detach().broadcast_sub(&along_channels(mean, xs)?)?;
        let normalized = centered.broadcast_mul(&along_channels(inverse_std, xs)?)?;
        let dys = dys.detach();
        Tensor::stack(&[channel_sum(&dys)?, channel_sum(&(&dys * normalized)?)?], 0)
    }

    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, [scale, slope, offset]: [&Tensor; 3]) -> Result<Tensor> {
        let scaled = dys.detach().broadcast_mul(&along_channels(scale, xs)?)?;
        let sloped = xs.detach().broadcast_mul(&along_channels(slope, xs)?)?;
        (scaled + sloped)?.broadcast_add(&along_channels(offset, xs)?)
    }

    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        let mask = ys.detach().gt(0.0)?.to_dtype(dys.dtype())?;
        match more {
            Some(more) => (dys.detach() + more.detach())? * mask,
            None => dys.detach() * mask,
        }
    }
}
