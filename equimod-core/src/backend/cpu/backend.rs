//! Losses, optimizers and pixel conversion of both CPU backends.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{average, cross_entropy, norms, optimizer, pixels};
use crate::backend::contract::{
    AdamWRule, ImageOps, LarsRule, LossOps, MomentumRule, OptimizerOps, PixelShape, RowTargets,
};

/// A backend for f32 or f64 tensors on the CPU.
pub trait CpuBackend {}

impl<B: CpuBackend> LossOps for B {
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
        cross_entropy::cross_entropy_rows(similarities, targets)
    }
}

impl<B: CpuBackend> OptimizerOps for B {
    fn squared_norm(&self, tensor: &Tensor) -> Result<Tensor> {
        Tensor::new(norms::squared_norm(tensor)?, &Device::Cpu)
    }

    fn momentum_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &MomentumRule) -> Result<()> {
        optimizer::momentum_step(weight, buffer, gradient, rule)
    }

    fn lars_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &LarsRule) -> Result<()> {
        optimizer::lars_step(weight, buffer, gradient, rule)
    }

    fn adamw_step(&self, weight: &Var, moments: &Var, gradient: &Tensor, rule: &AdamWRule) -> Result<()> {
        optimizer::adamw_step(weight, moments, gradient, rule)
    }

    fn move_towards(&self, target: &Var, source: &Tensor, kept: f64) -> Result<()> {
        average::move_towards(target, source, kept)
    }
}

impl<B: CpuBackend> ImageOps for B {
    fn normalized(
        &self,
        pixels: &[u8],
        shape: PixelShape,
        channels: [[f32; 3]; 2],
        _: &Device,
        dtype: DType,
    ) -> Result<Tensor> {
        pixels::normalized(pixels, shape, channels, dtype)
    }
}
