//! Gradients that are too long.

use candle_core::{DType, Device, Tensor};

use crate::params::Gradients;
use crate::{Result, ops};

/// Scales gradients whose norm is above `limit` down to it, all by one factor: `min(1, limit/(norm + 1e-6))`, as
/// `torch.nn.utils.clip_grad_norm_` (Pascanu et al., arXiv 1211.5063). `norm` is what [`Gradients::norm`]
/// gives, finite; a `limit` of 0 leaves all as they are.
pub fn clip(gradients: &mut Gradients, norm: f64, limit: f64) -> Result<()> {
    let factor = limit / (norm + 1e-6);
    if limit > 0.0 && factor < 1.0 { gradients.scale(factor) } else { Ok(()) }
}

impl Gradients {
    /// √(Σ ‖g‖²) over all tensors, in 64 bits: one transfer from the device.
    pub fn norm(&self) -> Result<f64> {
        let squares = self.iter().map(|(_, gradient)| ops::squared_norm(gradient));
        let squares = squares.collect::<candle_core::Result<Vec<_>>>()?;
        if squares.is_empty() {
            return Ok(0.0);
        }
        let squares = Tensor::stack(&squares, 0)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        Ok(squares.to_vec1::<f64>()?.iter().sum::<f64>().sqrt())
    }
}
