//! Batch norm over rows of channels: sums, application and backward, one pass over memory each.
//!
//! Sums are taken over short runs of rows in 32 bits and go on in 64; runs and tasks are cut by shape alone.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{load_some, unwritten};
use super::sums::{Partials, Rows, SHORT, add_sums, flush};
use crate::kernels::vectorise::vectorised_for;

/// Values of a task, about.
const TASK: usize = 1 << 16;

/// Values of a task, in whole runs of rows.
fn task(channels: usize) -> usize {
    (TASK / channels.max(1)).max(1).next_multiple_of(SHORT) * channels.max(1)
}

/// Σx and Σx² per channel, `[2, channels]`.
pub fn sums(arch: Arch, x: &[f32], channels: usize) -> Vec<f64> {
    let partials = x.par_chunks(task(channels)).map(|x| arch.dispatch(Sums { x, channels })).collect();
    Partials(partials).sum(channels)
}

struct Sums<'a> {
    x: &'a [f32],
    channels: usize,
}

impl WithSimd for Sums<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        let Self { x, channels } = self;
        let mut sums = vec![0.0; 2 * channels];
        let (first, second) = sums.split_at_mut(channels);
        for x in x.chunks(SHORT * channels) {
            let rows = Rows { first: x.as_ptr(), count: x.len() / channels };
            // SAFETY: the rows lie in the chunk.
            unsafe { add_sums(simd, &[rows], channels, first, second) };
        }
        sums
    }
}

/// Which values a ReLU let pass.
#[derive(Clone, Copy)]
pub enum Passed<'a> {
    /// There was none.
    All,
    /// Those above 0 of its output.
    Output(&'a [f32]),
    /// Those that `x·scale + shift` lifts above 0, where nothing was added before the ReLU: the output is not read.
    Input { scale: &'a [f32], shift: &'a [f32] },
}

impl<'a> Passed<'a> {
    fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Output(y) => Self::Output(&y[range]),
            other => other,
        }
    }
}

/// Σdy' and Σdy'·x̂ per channel, `[2, channels]`, where dy' is dy where it passed, else 0.
pub fn backward_sums(
    arch: Arch,
    dy: &[f32],
    passed: Passed,
    x: &[f32],
    (mean, inverse_deviation): (&[f32], &[f32]),
) -> Vec<f64> {
    let channels = mean.len();
    let length = task(channels);
    let tasks = dy.par_chunks(length).zip(x.par_chunks(length)).enumerate();
    let partials = tasks.map(|(k, (dy, x))| {
        arch.dispatch(BackwardSums { dy, passed: passed.part(k * length..k * length + x.len()), x, mean })
    });
    let mut sums = Partials(partials.collect()).sum(channels);
    for (sum, &inverse) in sums[channels..].iter_mut().zip(inverse_deviation) {
        *sum *= f64::from(inverse);
    }
    sums
}

/// `count` values, of a vector at most, from `from` on.
#[inline(always)]
fn at<S: Simd>(simd: S, values: &[f32], from: usize, count: usize) -> S::f32s {
    // SAFETY: they lie in the slice.
    unsafe { load_some(simd, values[from..from + count].as_ptr(), count) }
}

/// Σdy' and Σdy'·(x − mean).
struct BackwardSums<'a> {
    dy: &'a [f32],
    passed: Passed<'a>,
    x: &'a [f32],
    mean: &'a [f32],
}

impl WithSimd for BackwardSums<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        let Self { dy, passed, x, mean } = self;
        let channels = mean.len();
        let mut sums = vec![0.0; 2 * channels];
        let (first, second) = sums.split_at_mut(channels);
        let zero = simd.splat_f32s(0.0);
        for start in (0..x.len()).step_by(SHORT * channels) {
            let rows = SHORT.min((x.len() - start) / channels);
            for c in (0..channels).step_by(S::F32_LANES) {
                let count = (channels - c).min(S::F32_LANES);
                let (mean, mut sum, mut product) = (at(simd, mean, c, count), zero, zero);
                for row in 0..rows {
                    let place = start + row * channels + c;
                    let (x, dy) = (at(simd, x, place, count), at(simd, dy, place, count));
                    let dy = match passed {
                        Passed::All => dy,
                        Passed::Output(y) => {
                            simd.select_f32s(simd.greater_than_f32s(at(simd, y, place, count), zero), dy, zero)
                        }
                        Passed::Input { scale, shift } => {
                            let y = simd.mul_add_e_f32s(x, at(simd, scale, c, count), at(simd, shift, c, count));
                            simd.select_f32s(simd.greater_than_f32s(y, zero), dy, zero)
                        }
                    };
                    sum = simd.add_f32s(sum, dy);
                    product = simd.mul_add_e_f32s(dy, simd.sub_f32s(x, mean), product);
                }
                flush(simd, sum, &mut first[c..c + count]);
                flush(simd, product, &mut second[c..c + count]);
            }
        }
        sums
    }
}

/// `relu?(x·scale + shift + residual?)`.
pub fn apply(arch: Arch, x: &[f32], scale: &[f32], shift: &[f32], residual: Option<&[f32]>, relu: bool) -> Vec<f32> {
    let channels = scale.len();
    let length = task(channels);
    let mut out = unwritten(x.len());
    // Not a number stays what it is.
    let least = if relu { 0.0 } else { f32::NEG_INFINITY };
    out.par_chunks_mut(length).zip(x.par_chunks(length)).enumerate().for_each(|(k, (out, x))| {
        let residual = residual.map(|residual| &residual[k * length..k * length + x.len()]);
        vectorised_for(
            arch,
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).enumerate();
                for (row, (out, x)) in rows {
                    let lines = out.iter_mut().zip(x).zip(scale.iter().zip(shift));
                    match residual {
                        None => {
                            for ((out, &x), (&scale, &shift)) in lines {
                                let value = x.mul_add(scale, shift);
                                *out = if value <= least { least } else { value };
                            }
                        }
                        Some(residual) => {
                            for (((out, &x), (&scale, &shift)), &r) in lines.zip(&residual[row * channels..]) {
                                let value = x.mul_add(scale, shift) + r;
                                *out = if value <= least { least } else { value };
                            }
                        }
                    }
                }
            },
        );
    });
    out
}

/// `scale·dy' + slope·x + offset`, each per channel: batch norm's backward.
pub fn backward(arch: Arch, dy: &[f32], passed: Passed, x: &[f32], [scale, slope, offset]: [&[f32]; 3]) -> Vec<f32> {
    let channels = scale.len();
    let length = task(channels);
    let mut out = unwritten(x.len());
    let tasks = out.par_chunks_mut(length).zip(x.par_chunks(length).zip(dy.par_chunks(length))).enumerate();
    tasks.for_each(|(k, (out, (x, dy)))| {
        let passed = passed.part(k * length..k * length + x.len());
        vectorised_for(
            arch,
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).zip(dy.chunks_exact(channels));
                for (row, ((out, x), dy)) in rows.enumerate() {
                    let values = out.iter_mut().zip(x).zip(dy);
                    let values = values.zip(scale.iter().zip(slope).zip(offset));
                    match passed {
                        Passed::All => {
                            for (((out, &x), &dy), ((&scale, &slope), &offset)) in values {
                                *out = dy.mul_add(scale, x.mul_add(slope, offset));
                            }
                        }
                        Passed::Output(y) => {
                            for ((((out, &x), &dy), ((&scale, &slope), &offset)), &y) in
                                values.zip(&y[row * channels..])
                            {
                                let dy = if y > 0.0 { dy } else { 0.0 };
                                *out = dy.mul_add(scale, x.mul_add(slope, offset));
                            }
                        }
                        Passed::Input { scale: lift, shift } => {
                            for ((((out, &x), &dy), ((&scale, &slope), &offset)), (&lift, &shift)) in
                                values.zip(lift.iter().zip(shift))
                            {
                                let dy = if x.mul_add(lift, shift) > 0.0 { dy } else { 0.0 };
                                *out = dy.mul_add(scale, x.mul_add(slope, offset));
                            }
                        }
                    }
                }
            },
        );
    });
    out
}

/// a + b where `passed` is above 0 (everywhere if nothing is said), into `a`.
pub fn add(arch: Arch, a: &mut [f32], b: &[f32], passed: Option<&[f32]>) {
    a.par_chunks_mut(TASK).zip(b.par_chunks(TASK)).enumerate().for_each(|(k, (a, b))| {
        let passed = passed.map(|passed| &passed[k * TASK..k * TASK + b.len()]);
        vectorised_for(
            arch,
            #[inline(always)]
            || match passed {
                None => {
                    for (a, &b) in a.iter_mut().zip(b) {
                        *a += b;
                    }
                }
                Some(passed) => {
                    for ((a, &b), &y) in a.iter_mut().zip(b).zip(passed) {
                        *a += if y > 0.0 { b } else { 0.0 };
                    }
                }
            },
        );
    });
}
