//! Batch norm over `[batch, channels, area]`: sums, application and backward pass, with one pass over memory each.
//!
//! Per-channel sums are computed plane by plane in f64 and added in the order of images.

use std::ops::Range;

use rayon::prelude::*;

use crate::backend::cpu::Element;
use crate::backend::cpu::vectorized;

/// Batch size, channels, and number of values of a channel in an image.
#[derive(Clone, Copy)]
pub struct Planes {
    pub batch: usize,
    pub channels: usize,
    pub area: usize,
}

/// Number of rows that are summed together if a channel has one value per image.
const ROWS: usize = 64;
/// Number of partial sums of a plane: fixed, so that they fill vectors and give the same result on every machine.
const LANES: usize = 8;

/// Sums of two quantities over the elements of a plane of two tensors.
#[inline(always)]
fn plane_sums<T: Element>(a: &[T], b: &[T], both: impl Fn(T, T) -> (f64, f64)) -> (f64, f64) {
    let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let (x, y) = both(a[lane], b[lane]);
            first[lane] += x;
            second[lane] += y;
        }
    }
    for lane in a.len() - a.len() % LANES..a.len() {
        let (x, y) = both(a[lane], b[lane]);
        first[lane % LANES] += x;
        second[lane % LANES] += y;
    }
    (first.iter().sum(), second.iter().sum())
}

/// Per-channel sums over images and area of two quantities of the elements of two tensors, `[2, channels]`.
fn channel_sums<T: Element>(
    p: Planes,
    (a, b): (&[T], &[T]),
    both: impl Fn(T, T, usize) -> (f64, f64) + Sync,
) -> Vec<f64> {
    let Planes { batch, channels, area } = p;
    if area == 1 {
        return row_sums(batch, channels, |i, channel| both(a[i], b[i], channel));
    }
    let channel_sum = |channel: usize| {
        let (mut first, mut second) = (0.0, 0.0);
        for n in 0..batch {
            let plane = (n * channels + channel) * area..(n * channels + channel + 1) * area;
            let (a, b) = (&a[plane.clone()], &b[plane]);
            let (x, y) = vectorized(
                #[inline(always)]
                || plane_sums(a, b, |a, b| both(a, b, channel)),
            );
            first += x;
            second += y;
        }
        (first, second)
    };
    let sums: Vec<(f64, f64)> = (0..channels).into_par_iter().map(channel_sum).collect();
    sums.iter().map(|s| s.0).chain(sums.iter().map(|s| s.1)).collect()
}

fn row_sums(batch: usize, channels: usize, both: impl Fn(usize, usize) -> (f64, f64) + Sync) -> Vec<f64> {
    let blocks: Vec<Vec<f64>> = (0..batch.div_ceil(ROWS))
        .into_par_iter()
        .map(|block| {
            let mut sums = vec![0.0; 2 * channels];
            for n in block * ROWS..((block + 1) * ROWS).min(batch) {
                for c in 0..channels {
                    let (x, y) = both(n * channels + c, c);
                    sums[c] += x;
                    sums[channels + c] += y;
                }
            }
            sums
        })
        .collect();
    let mut total = vec![0.0; 2 * channels];
    for block in blocks {
        for (sum, value) in total.iter_mut().zip(block) {
            *sum += value;
        }
    }
    total
}

/// Σx and Σx² of each channel, `[2, channels]`.
pub fn sums<T: Element>(x: &[T], p: Planes) -> Vec<f64> {
    channel_sums(
        p,
        (x, x),
        #[inline(always)]
        |x, _, _| {
            let v = x.wide();
            (v, v * v)
        },
    )
}

/// Σdy and Σdy·x̂ of each channel, `[2, channels]`.
pub fn backward_sums<T: Element>(dy: &[T], x: &[T], mean: &[T], inverse_std: &[T], p: Planes) -> Vec<f64> {
    let mean: Vec<f64> = mean.iter().map(|v| v.wide()).collect();
    let inverse: Vec<f64> = inverse_std.iter().map(|v| v.wide()).collect();
    channel_sums(
        p,
        (dy, x),
        #[inline(always)]
        |dy, x, c| (dy.wide(), dy.wide() * (x.wide() - mean[c]) * inverse[c]),
    )
}

/// `relu?(x·scale + shift + residual?)`.
pub fn apply<T: Element>(
    x: &[T],
    scale: &[T],
    shift: &[T],
    residual: Option<&[T]>,
    relu: bool,
    p: Planes,
    out: &mut [T],
) {
    // NaN is preserved.
    let least = if relu { T::zero() } else { T::neg_infinity() };
    let scale_shift = |v: T| if v <= least { least } else { v };
    each_plane(
        p,
        out,
        #[inline(always)]
        |c: usize, range: Range<usize>, out: &mut [T]| {
            let (scale, shift, x) = (scale[c], shift[c], &x[range.clone()]);
            match residual {
                None => {
                    for (out, &x) in out.iter_mut().zip(x) {
                        *out = scale_shift(x * scale + shift);
                    }
                }
                Some(residual) => {
                    for ((out, &x), &r) in out.iter_mut().zip(x).zip(&residual[range]) {
                        *out = scale_shift(x * scale + shift + r);
                    }
                }
            }
        },
    );
}

/// `scale·dy + slope·x + offset` with per-channel coefficients.
pub fn backward<T: Element>(dy: &[T], x: &[T], [scale, slope, offset]: [&[T]; 3], p: Planes, dx: &mut [T]) {
    each_plane(
        p,
        dx,
        #[inline(always)]
        |c: usize, range: Range<usize>, dx: &mut [T]| {
            let (scale, slope, offset) = (scale[c], slope[c], offset[c]);
            for ((dx, &dy), &x) in dx.iter_mut().zip(&dy[range.clone()]).zip(&x[range]) {
                *dx = scale * dy + slope * x + offset;
            }
        },
    );
}

/// Number of values of a task in an element-wise pass.
const CHUNK: usize = 1 << 14;

/// `(dy + more?)·[y > 0]`.
pub fn relu_backward<T: Element>(dy: &[T], more: Option<&[T]>, y: &[T], out: &mut [T]) {
    let chunks = out.par_chunks_mut(CHUNK).zip(dy.par_chunks(CHUNK).zip(y.par_chunks(CHUNK))).enumerate();
    chunks.for_each(|(k, (out, (dy, y)))| {
        for (i, ((out, &dy), &y)) in out.iter_mut().zip(dy).zip(y).enumerate() {
            let whole = more.map_or(dy, |more| dy + more[k * CHUNK + i]);
            *out = if y > T::zero() { whole } else { T::zero() };
        }
    });
}

/// Calls `f(channel, range of the plane, plane of out)` for every plane, in parallel over images.
fn each_plane<T: Element>(p: Planes, out: &mut [T], f: impl Fn(usize, Range<usize>, &mut [T]) + Sync) {
    let Planes { channels, area, .. } = p;
    out.par_chunks_mut(channels * area).enumerate().for_each(|(n, out)| {
        vectorized(
            #[inline(always)]
            || {
                for (c, out) in out.chunks_mut(area).enumerate() {
                    let start = (n * channels + c) * area;
                    f(c, start..start + area, out);
                }
            },
        );
    });
}
