//! Gradient clipping by global norm.

use candle_core::{DType, Tensor};

use crate::params::Gradients;
use crate::{Result, host, ops};

/// Scales all gradients by `min(1, limit/(norm + 1e-6))`, so that their global norm is at most `limit`, as
/// `torch.nn.utils.clip_grad_norm_` does (Pascanu et al., arXiv 1211.5063).
///
/// `norm` is the scalar from [`Gradients::norm`]. A `limit` of 0 leaves the gradients unchanged. Nothing is read back
/// from a device.
///
/// # Errors
///
/// If a tensor operation fails.
pub fn clip(gradients: &mut Gradients, norm: &Tensor, limit: f64) -> Result<()> {
    if limit <= 0.0 {
        return Ok(());
    }
    match host::at_hand(norm)? {
        Some(norm) => {
            let factor = limit / (norm + 1e-6);
            if factor < 1.0 { gradients.scale(factor) } else { Ok(()) }
        }
        None => gradients.scale_by(&((norm + 1e-6)?.recip()? * limit)?.minimum(1.0)?),
    }
}

impl Gradients {
    /// Global norm √(Σ ‖g‖²) over all tensors, a scalar on their device (f64, or f32 on Metal); 0 if there are no
    /// tensors.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn norm(&self) -> Result<Tensor> {
        let gradients: Vec<&Tensor> = self.iter().map(|(_, gradient)| gradient).collect();
        let Some(first) = gradients.first() else { return Ok(Tensor::new(0f64, &candle_core::Device::Cpu)?) };
        let wide: DType = host::widest(first.device());
        Ok(ops::squared_norms(&gradients)?.to_dtype(wide)?.sum_all()?.sqrt()?)
    }
}
