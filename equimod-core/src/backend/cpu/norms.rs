//! Sums of squares, in f64 except for the shortest runs, in a fixed order.

use candle_core::{DType, Result, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use super::element::{Element, constant};
use super::slices::{Values, plain};
use super::vectorize::vectorized;

/// Number of values that are summed at once.
const CHUNK: usize = 1 << 14;

/// Number of partial sums of a chunk, which the processor computes in parallel.
const LANES: usize = 16;

/// Number of values whose squares are added in their own precision, eight per lane, before they are added in f64.
const RUN: usize = 8 * LANES;

/// Squared norm Σ v² of an f32 or f64 tensor.
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    let tensor = plain(tensor)?;
    match tensor.dtype() {
        DType::F32 => of_one::<f32>(&tensor),
        _ => of_one::<f64>(&tensor),
    }
}

/// Σ w² and Σ (decay·w + g)² of f32 or f64 tensors of the same shape, each summand rounded to their precision, in one
/// pass over both.
pub fn squared_norms(weight: &Tensor, decay: f64, gradient: &Tensor) -> Result<[f64; 2]> {
    let (weight, gradient) = (plain(weight)?, plain(gradient)?);
    match weight.dtype() {
        DType::F32 => of_two::<f32>(&weight, decay, &gradient),
        _ => of_two::<f64>(&weight, decay, &gradient),
    }
}

fn of_one<T: Element>(tensor: &Tensor) -> Result<f64> {
    let values = Values::of(tensor)?;
    let chunks = values.get::<T>()?.par_chunks(CHUNK);
    let sums: Vec<f64> = chunks.map(|v| squares(v, v, |v, _| v)).collect();
    Ok(sums.iter().sum())
}

fn of_two<T: Element>(weight: &Tensor, decay: f64, gradient: &Tensor) -> Result<[f64; 2]> {
    let (w, g, decay) = (Values::of(weight)?, Values::of(gradient)?, constant::<T>(decay));
    let chunks = w.get::<T>()?.par_chunks(CHUNK).zip(g.get::<T>()?.par_chunks(CHUNK));
    let sums: Vec<[f64; 2]> =
        chunks.map(|(w, g)| [squares(w, g, |w, _| w), squares(w, g, move |w, g| w * decay + g)]).collect();
    Ok([sums.iter().map(|s| s[0]).sum(), sums.iter().map(|s| s[1]).sum()])
}

/// Sum of the squares of `value(a, b)`. `value` should own its captures, or they are read again for every pair.
fn squares<T: Float>(a: &[T], b: &[T], value: impl Fn(T, T) -> T) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<RUN>(), b.as_chunks::<RUN>());
    let lanes = vectorized(
        #[inline(always)]
        || {
            let mut sums = [0f64; LANES];
            for (a, b) in a.iter().zip(b) {
                let mut run = [T::zero(); LANES];
                for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
                    for lane in 0..LANES {
                        let value = value(a[lane], b[lane]);
                        run[lane] = run[lane] + value * value;
                    }
                }
                for (sum, run) in sums.iter_mut().zip(run) {
                    *sum += wide(run);
                }
            }
            sums
        },
    );
    let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| wide(value(a, b)).powi(2));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

#[inline(always)]
fn wide<T: Float>(value: T) -> f64 {
    value.to_f64().unwrap_or(f64::NAN)
}
