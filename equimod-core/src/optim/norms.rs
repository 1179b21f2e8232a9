//! Sums of squares in 64 bits, added in a fixed order.

use candle_core::{DType, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use super::in_place::constant;
use crate::Result;
use crate::kernels::{Element, Values, vectorised};

/// Values that are summed in one go.
const CHUNK: usize = 1 << 14;

/// Partial sums of a chunk: a processor adds them side by side.
const LANES: usize = 16;

/// Σ v².
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    if !has_kernel(tensor) {
        return composed(tensor);
    }
    let tensor = tensor.contiguous()?;
    match tensor.dtype() {
        DType::F32 => of_one::<f32>(&tensor),
        _ => of_one::<f64>(&tensor),
    }
}

/// Σ w² and Σ (decay·w + g)², each sum rounded to the tensors' own precision, in one pass over both.
pub(super) fn squared_norms(weight: &Tensor, decay: f64, gradient: &Tensor) -> Result<[f64; 2]> {
    if !has_kernel(weight) {
        return Ok([composed(weight)?, composed(&((weight * decay)? + gradient)?)?]);
    }
    let (weight, gradient) = (weight.contiguous()?, gradient.contiguous()?);
    match weight.dtype() {
        DType::F32 => of_two::<f32>(&weight, decay, &gradient),
        _ => of_two::<f64>(&weight, decay, &gradient),
    }
}

fn has_kernel(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
}

fn composed(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?.into())
}

fn of_one<T: Element>(tensor: &Tensor) -> Result<f64> {
    let values = Values::of(tensor)?;
    let chunks = values.get::<T>()?.par_chunks(CHUNK);
    let sums: Vec<f64> = chunks.map(|v| squares(v, v, |v, _| [v])[0]).collect();
    Ok(sums.iter().sum())
}

fn of_two<T: Element>(weight: &Tensor, decay: f64, gradient: &Tensor) -> Result<[f64; 2]> {
    let (w, g, decay) = (Values::of(weight)?, Values::of(gradient)?, constant::<T>(decay));
    let chunks = w.get::<T>()?.par_chunks(CHUNK).zip(g.get::<T>()?.par_chunks(CHUNK));
    let sums: Vec<[f64; 2]> = chunks.map(|(w, g)| squares(w, g, |w, g| [w, w * decay + g])).collect();
    Ok([sums.iter().map(|s| s[0]).sum(), sums.iter().map(|s| s[1]).sum()])
}

/// The sums of the squares of the `KINDS` values that are made of each pair.
fn squares<T: Float, const KINDS: usize>(a: &[T], b: &[T], values: impl Fn(T, T) -> [T; KINDS]) -> [f64; KINDS] {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [[0f64; LANES]; KINDS];
    vectorised(
        #[inline(always)]
        || {
            for (a, b) in a.iter().zip(b) {
                for lane in 0..LANES {
                    let values = values(a[lane], b[lane]);
                    for kind in 0..KINDS {
                        lanes[kind][lane] += square(values[kind]);
                    }
                }
            }
        },
    );
    let mut sums = lanes.map(|lanes| lanes.iter().sum::<f64>());
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        for (sum, value) in sums.iter_mut().zip(values(a, b)) {
            *sum += square(value);
        }
    }
    sums
}

#[inline(always)]
fn square<T: Float>(value: T) -> f64 {
    value.to_f64().map_or(f64::NAN, |v| v * v)
}
