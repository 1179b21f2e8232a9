//! Cross-entropy of rows.

use candle_core::{DType, Result, Tensor};

use super::Cuda;
use super::launch::{Grid, Kernel, Module, launch};
use super::memory::{address, count, device_of, uninitialized};
use crate::backend::contract::{LossOps, Positives, RowTargets};

/// [`RowTargets`] as the kernel takes them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Targets {
    first: u32,
    local: u32,
    offset: u32,
    positives: u32,
    decoupled: u32,
}

impl Targets {
    fn new(targets: &RowTargets) -> Result<Self> {
        let positives = match targets.positives {
            Positives::SameRow => 0,
            Positives::OtherHalf => 1,
            Positives::OtherHalfWithoutSiblings => 2,
        };
        let RowTargets { first, local, offset, decoupled, .. } = *targets;
        let (first, local, offset) = (count(first)?, count(local)?, count(offset)?);
        Ok(Self { first, local, offset, positives, decoupled: decoupled.into() })
    }
}

impl LossOps for Cuda {
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
        let dtype = similarities.dtype();
        let gradient = similarities.detach().to_dtype(DType::F32)?.contiguous()?;
        let (rows, columns) = gradient.dims2()?;
        let losses = uninitialized(&[rows], DType::F32, gradient.device())?;
        if rows > 0 {
            let (values, loss, columns) = (address(&gradient)?, address(&losses)?, count(columns)?);
            let targets = Targets::new(targets)?;
            let kernel = Kernel { module: Module::Loss, name: "cross_entropy", suffix: "" };
            let grid = Grid { blocks: (count(rows)?, 1), threads: (256, 1) };
            launch!(device_of(&gradient)?, kernel, grid, values, loss, columns, targets)?;
        }
        Ok((losses, gradient.to_dtype(dtype)?))
    }
}
