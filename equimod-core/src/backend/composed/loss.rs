//! Cross-entropy of rows with masks that are computed on the device.

use candle_core::{DType, Result, Tensor};

use super::{Composed, one_hot};
use crate::backend::contract::{LossOps, RowTargets};

/// Finite value in place of −∞, whose exponential is 0 relative to that of any similarity.
const LOWEST: f32 = -1e8;

impl LossOps for Composed {
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
        let s = similarities.detach();
        let (rows, columns_of_all) = s.dims2()?;
        let one_hot = |columns: Vec<u32>| one_hot(columns, columns_of_all, s.device(), s.dtype());
        let positives = (0..rows).map(|row| targets.positive(row) as u32).collect();
        let onehot = one_hot(positives)?;
        let mut mask = if targets.decoupled { &onehot * f64::from(LOWEST) } else { onehot.zeros_like() }?;
        for number in 0..targets.exclusions() {
            let excluded = |row| targets.excluded(row).nth(number).map(|column| column as u32);
            // All rows have the same number.
            let columns: Vec<u32> = (0..rows).filter_map(excluded).collect();
            mask = (mask + (one_hot(columns)? * f64::from(LOWEST))?)?;
        }
        let masked = (&s + mask)?;
        let highest = masked.max_keepdim(1)?;
        let exponentials = masked.broadcast_sub(&highest)?.exp()?;
        let sums = exponentials.sum_keepdim(1)?;
        let positives = (&s * &onehot)?.sum_keepdim(1)?;
        // 0 for rows without any column.
        let compared = highest.ge(f64::from(LOWEST) / 2.0)?.to_dtype(s.dtype())?;
        let losses = (((sums.log()? + highest)? * &compared)? - positives)?;
        let weights = (exponentials.broadcast_mul(&(compared / sums)?)? - onehot)?;
        Ok((losses.squeeze(1)?.to_dtype(DType::F32)?, weights))
    }
}
