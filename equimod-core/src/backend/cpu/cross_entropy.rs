//! Cross-entropy of rows and its gradient, computed in place.

use std::cell::RefCell;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor, bail};
use num_traits::Float;
use rayon::prelude::*;

use crate::backend::contract::RowTargets;

/// [`LossOps::cross_entropy_rows`](crate::backend::contract::LossOps::cross_entropy_rows).
pub fn cross_entropy_rows(similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
    let kernel = CrossEntropy { targets, losses: RefCell::default() };
    similarities.inplace_op1(&kernel)?;
    let losses = kernel.losses.into_inner();
    let rows = losses.len();
    Ok((Tensor::from_vec(losses, rows, &Device::Cpu)?, similarities))
}

/// In-place operation, with the losses that it computes.
struct CrossEntropy<'a> {
    targets: &'a RowTargets,
    losses: RefCell<Vec<f64>>,
}

impl CrossEntropy<'_> {
    fn run<T: Float + Send + Sync>(&self, values: &mut [T], columns: usize) {
        let rows = values.par_chunks_mut(columns).enumerate();
        let targets = self.targets;
        *self.losses.borrow_mut() = rows.map(|(row, values)| cross_entropy_row(values, row, targets)).collect();
    }
}

impl InplaceOp1 for CrossEntropy<'_> {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (Some((start, end)), &[_, columns]) = (layout.contiguous_offsets(), layout.dims()) else {
            bail!("a cross-entropy needs a contiguous matrix of similarities, got {:?}", layout.dims())
        };
        if columns == 0 {
            bail!("a cross-entropy needs at least one column");
        }
        match storage {
            CpuStorage::F32(values) => self.run(&mut values[start..end], columns),
            CpuStorage::F64(values) => self.run(&mut values[start..end], columns),
            other => bail!("the CPU's cross-entropy takes f32 or f64, not {:?}", other.dtype()),
        }
        Ok(())
    }
}

fn cross_entropy_row<T: Float>(values: &mut [T], row: usize, targets: &RowTargets) -> f64 {
    let at = targets.positive(row);
    let positive = values[at];
    for column in targets.excluded(row) {
        values[column] = T::neg_infinity();
    }
    if targets.decoupled {
        values[at] = T::neg_infinity();
    }
    let highest = values.iter().copied().fold(T::neg_infinity(), T::max);
    if highest == T::neg_infinity() {
        // Without any column in the sum, the loss is the similarity alone.
        values.fill(T::zero());
        values[at] = -T::one();
        return (-positive).to_f64().unwrap_or(f64::NAN);
    }
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - highest).exp();
        sum += value.to_f64().unwrap_or(f64::NAN);
    }
    let inverse = T::from(1.0 / sum).unwrap_or_else(T::nan);
    for value in values.iter_mut() {
        *value = *value * inverse;
    }
    values[at] = values[at] - T::one();
    sum.ln() + (highest - positive).to_f64().unwrap_or(f64::NAN)
}
