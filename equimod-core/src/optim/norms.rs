//! Sums of squares in 64 bits, added in a fixed order.

use candle_core::{DType, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use super::in_place::constant;
use crate::Result;
use crate::kernels::{Element, Values};

/// Values that are summed in one go.
const CHUNK: usize = 1 << 14;

/// Partial sums of a chunk: a processor adds them side by side.
const LANES: usize = 16;

/// Σ v².
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    squared_norm_of_sum(tensor, 0.0, None)
}

/// Σ (decay·w + g)², each sum rounded to the tensors' own precision; Σ w² without a `gradient`.
pub(super) fn squared_norm_of_sum(weight: &Tensor, decay: f64, gradient: Option<&Tensor>) -> Result<f64> {
    let weight = weight.contiguous()?;
    let gradient = gradient.map(Tensor::contiguous).transpose()?;
    if !weight.device().is_cpu() || !matches!(weight.dtype(), DType::F32 | DType::F64) {
        let sum = match gradient {
            Some(gradient) => ((weight * decay)? + gradient)?,
            None => weight,
        };
        return Ok(sum.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?.into());
    }
    match weight.dtype() {
        DType::F32 => on_cpu::<f32>(&weight, decay, gradient.as_ref()),
        _ => on_cpu::<f64>(&weight, decay, gradient.as_ref()),
    }
}

fn on_cpu<T: Element>(weight: &Tensor, decay: f64, gradient: Option<&Tensor>) -> Result<f64> {
    let values = Values::of(weight)?;
    let w = values.get::<T>()?;
    let Some(gradient) = gradient else {
        return Ok(w.par_chunks(CHUNK).map(|w| sum(w.len(), |i| w[i])).collect::<Vec<_>>().iter().sum());
    };
    let (decay, values) = (constant::<T>(decay), Values::of(gradient)?);
    let chunks = w.par_chunks(CHUNK).zip(values.get::<T>()?.par_chunks(CHUNK));
    let sums: Vec<f64> = chunks.map(|(w, g)| sum(w.len().min(g.len()), |i| w[i] * decay + g[i])).collect();
    Ok(sums.iter().sum())
}

fn sum<T: Float>(count: usize, value: impl Fn(usize) -> T) -> f64 {
    let square = |i: usize| value(i).to_f64().map_or(f64::NAN, |v| v * v);
    let mut lanes = [0f64; LANES];
    let whole = count / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += square(i + lane);
        }
    }
    lanes.iter().sum::<f64>() + (whole..count).map(square).sum::<f64>()
}
