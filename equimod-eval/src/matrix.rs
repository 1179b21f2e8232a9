//! Matrix products on slices, and sums over rows that do not depend on the number of threads.

use std::borrow::Cow;

pub(crate) use equimod_core::backend::cpu::{Matrix, gemm as matmul};
use nalgebra::{DMatrix, SymmetricEigen};
use num_traits::{Float, NumAssign};
use rayon::prelude::*;

/// `f32` or `f64`.
pub(crate) trait Real: Float + NumAssign + Send + Sync + 'static {
    /// The same values in this precision.
    fn of(values: &[f32]) -> Cow<'_, [Self]>;

    /// The value nearest to a 64-bit one.
    fn near(value: f64) -> Self;

    /// The value in f64.
    fn wide(self) -> f64;

    /// `e^x` for x of at most 0.
    fn exponential(self) -> Self;
}

impl Real for f64 {
    fn of(values: &[f32]) -> Cow<'_, [Self]> {
        values.iter().map(|&v| f64::from(v)).collect()
    }

    fn near(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    fn exponential(self) -> Self {
        self.exp()
    }
}

impl Real for f32 {
    fn of(values: &[f32]) -> Cow<'_, [Self]> {
        values.into()
    }

    fn near(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    /// `2^n · e^r` with `|r| ≤ ln 2 / 2` and e^r by its series, with a relative error below 3e-7. Unlike the standard
    /// library's function, it can be vectorized.
    #[inline(always)]
    fn exponential(self) -> Self {
        const ROUND: f32 = 12_582_912.0;
        let x = self.max(-87.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
        let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
        let value = series.iter().fold(0.0, |sum, term| sum * r + term);
        value * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
    }
}

/// Rows of a block of work; fixed, so that sums do not depend on the number of threads.
pub(crate) const BLOCK: usize = 512;

/// `Σ share(block)` over blocks of [`BLOCK`] rows, a number and a vector of `length` values, added in the order of
/// the blocks.
pub(crate) fn sum_over_blocks<T: Real>(
    rows: usize,
    length: usize,
    share: impl Fn(std::ops::Range<usize>) -> (f64, Vec<T>) + Sync,
) -> (f64, Vec<f64>) {
    let (mut value, mut sum) = (0.0, vec![0f64; length]);
    // Few enough blocks at a time to keep their sums in memory.
    let blocks: Vec<usize> = (0..rows).step_by(BLOCK).collect();
    for group in blocks.chunks(64) {
        let parts: Vec<(f64, Vec<T>)> = group.par_iter().map(|&start| share(start..rows.min(start + BLOCK))).collect();
        value += parts.iter().map(|part| part.0).sum::<f64>();
        sum.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, sum)| {
            for (_, part) in &parts {
                let part = &part[chunk * CHUNK..][..sum.len()];
                sum.iter_mut().zip(part).for_each(|(s, p)| *s += p.wide());
            }
        });
    }
    (value, sum)
}

/// `XᵀX`, `[columns, columns]`, of values X `[rows, columns]`.
pub(crate) fn gram<T: Real>(values: &[T], columns: usize) -> Vec<f64> {
    sum_over_blocks(values.len() / columns, columns * columns, |block| {
        let rows = Matrix::rows(&values[block.start * columns..block.end * columns], columns);
        let mut out = vec![T::zero(); columns * columns];
        matmul((columns, block.len(), columns), rows.transposed(), rows, (&mut out, columns), false);
        (0.0, out)
    })
    .1
}

/// Eigenvalues of a symmetric `[n, n]` matrix in descending order, and its eigenvectors `[n, n]`, one a row; the
/// largest entry of each is positive.
pub(crate) fn eigen(matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let decomposition = SymmetricEigen::new(DMatrix::from_vec(n, n, matrix));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| decomposition.eigenvalues[b].total_cmp(&decomposition.eigenvalues[a]));
    let values = order.iter().map(|&i| decomposition.eigenvalues[i]).collect();
    let vector = |&i: &usize| {
        let column = decomposition.eigenvectors.column(i);
        let sign =
            column.iter().fold(0.0, |largest: f64, v| if v.abs() > largest.abs() { *v } else { largest }).signum();
        column.iter().map(|v| v * sign).collect::<Vec<f64>>()
    };
    (values, order.iter().flat_map(vector).collect())
}

/// Values of a vector in a chunk of work.
const CHUNK: usize = 8192;

/// `Σ a·b`, independent of the number of threads.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    if a.len() <= CHUNK {
        return dot_here(a, b);
    }
    let parts: Vec<f64> = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| dot_here(a, b)).collect();
    parts.iter().sum()
}

/// `Σ a·b` on this thread, in eight partial sums that can be vectorized.
pub(crate) fn dot_here<T: Real>(a: &[T], b: &[T]) -> f64 {
    let mut sums = [0f64; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| a.wide() * b.wide()).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane].wide() * b[lane].wide();
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `to += scale·values`.
pub(crate) fn add_scaled(to: &mut [f64], scale: f64, values: &[f64]) {
    let add = |(to, values): (&mut [f64], &[f64])| to.iter_mut().zip(values).for_each(|(t, v)| *t += scale * v);
    if to.len() <= CHUNK {
        return add((to, values));
    }
    to.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(add);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gram_matrices_and_long_dots() {
        let rows = [1f32, 2.0, 3.0, 4.0];
        assert_eq!(gram(&rows, 2), [10.0, 14.0, 14.0, 20.0]);
        let (values, vectors) = eigen(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-12 && (values[1] - 1.0).abs() < 1e-12);
        assert!(vectors.iter().all(|v| (v.abs() - 0.5f64.sqrt()).abs() < 1e-12), "{vectors:?}");
        for power in 0..800 {
            let x = -f64::from(power) / 10.0;
            let close = f64::from((x as f32).exponential()) / f64::from(x as f32).exp();
            assert!((close - 1.0).abs() < 3e-7, "{x}: {close}");
        }
        let long: Vec<f64> = (0..20_001).map(|i| f64::from(i % 7)).collect();
        assert_eq!(dot(&long, &long), long.iter().map(|v| v * v).sum::<f64>());
    }
}
