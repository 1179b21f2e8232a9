//! Sums over rows of channels, in 64 bits and a fixed order.

use pulp::Simd;

use super::lanes::{LANES, load_some, store_some};

/// Rows that are added in 32 bits before they go on in 64.
pub const SHORT: usize = 16;

/// Sums of tasks, `[2, channels]` each, in the order of tasks.
pub struct Partials(pub Vec<Vec<f64>>);

impl Partials {
    /// Their sum.
    pub fn sum(self, channels: usize) -> Vec<f64> {
        let mut total = vec![0.0; 2 * channels];
        for partial in self.0 {
            total.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
        }
        total
    }
}

/// Adds Σx and Σx² over `rows` rows, [`SHORT`] at most, the first of them at `x`, to two sums of each column.
///
/// # Safety
/// As many values as there are sums can be read in each row; rows follow each other.
#[inline(always)]
pub unsafe fn add_sums<S: Simd>(simd: S, x: *const f32, rows: usize, first: &mut [f64], second: &mut [f64]) {
    let columns = first.len();
    for c in (0..columns).step_by(S::F32_LANES) {
        let count = (columns - c).min(S::F32_LANES);
        let (mut sum, mut square) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        for row in 0..rows {
            // SAFETY: the caller's promise.
            let value = unsafe { load_some(simd, x.add(row * columns + c), count) };
            sum = simd.add_f32s(sum, value);
            square = simd.mul_add_e_f32s(value, value, square);
        }
        flush(simd, sum, &mut first[c..c + count]);
        flush(simd, square, &mut second[c..c + count]);
    }
}

/// Adds a vector to sums in 64 bits.
#[inline(always)]
pub fn flush<S: Simd>(simd: S, values: S::f32s, sums: &mut [f64]) {
    let mut plain = [0f32; LANES];
    // SAFETY: no vector is longer.
    unsafe { store_some(simd, plain.as_mut_ptr(), values, S::F32_LANES) };
    for (sum, value) in sums.iter_mut().zip(plain) {
        *sum += f64::from(value);
    }
}
