//! Cross-entropy of rows by masks.

use candle_core::{DType, Device, Result, Tensor};

use super::Composed;
use crate::backend::contract::{LossOps, RowTargets};

/// Stands in for −∞: finite, and its exponential is 0 beside any similarity.
const LOWEST: f32 = -1e8;

impl LossOps for Composed {
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
        let s = similarities.detach();
        let (rows, columns) = s.dims2()?;
        let (mut mask, mut onehot) = (vec![0f32; rows * columns], vec![0f32; rows * columns]);
        for row in 0..rows {
            let positive = targets.positive(row);
            let decoupled = targets.decoupled.then_some(positive);
            for column in targets.excluded(row).chain(decoupled) {
                mask[row * columns + column] = LOWEST;
            }
            onehot[row * columns + positive] = 1.0;
        }
        let upload = |values: Vec<f32>| {
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_device(s.device())?.to_dtype(s.dtype())
        };
        let (mask, onehot) = (upload(mask)?, upload(onehot)?);
        let masked = (&s + mask)?;
        let highest = masked.max_keepdim(1)?;
        let exponentials = masked.broadcast_sub(&highest)?.exp()?;
        let sums = exponentials.sum_keepdim(1)?;
        let positives = (&s * &onehot)?.sum_keepdim(1)?;
        // 0 for rows that leave every column out.
        let compared = highest.ge(f64::from(LOWEST) / 2.0)?.to_dtype(s.dtype())?;
        let losses = (((sums.log()? + highest)? * &compared)? - positives)?;
        let weights = (exponentials.broadcast_mul(&(compared / sums)?)? - onehot)?;
        Ok((losses.squeeze(1)?.to_dtype(DType::F32)?, weights))
    }
}
