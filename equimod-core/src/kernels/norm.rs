//! Batch norm over `[batch, channels, area]`: sums, application and backward, one pass over memory each.
//!
//! Per-channel sums are taken plane by plane in 64 bits and added in the order of pictures.

use rayon::prelude::*;

use super::Element;

/// Batch, channels, values of a channel in a picture.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    pub batch: usize,
    pub channels: usize,
    pub area: usize,
}

/// Rows that are summed together where a channel has one value a picture.
const ROWS: usize = 64;

/// Per channel the sums over pictures and area of two quantities of element `i`, `[2, channels]`.
fn channel_sums(p: Planes, both: impl Fn(usize, usize) -> (f64, f64) + Sync) -> Vec<f64> {
    let Planes { batch, channels, area } = p;
    if area == 1 {
        return row_sums(batch, channels, both);
    }
    let sums: Vec<(f64, f64)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let (mut first, mut second) = (0.0, 0.0);
            for n in 0..batch {
                let start = (n * channels + c) * area;
                let (mut a, mut b) = (0.0, 0.0);
                for i in start..start + area {
                    let (x, y) = both(i, c);
                    a += x;
                    b += y;
                }
                first += a;
                second += b;
            }
            (first, second)
        })
        .collect();
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

/// Σx and Σx².
pub(super) fn sums<T: Element>(x: &[T], p: Planes) -> Vec<f64> {
    channel_sums(p, |i, _| {
        let v = x[i].wide();
        (v, v * v)
    })
}

/// Σdy' and Σdy'·x̂, where dy' is dy, or 0 where the rectified output `y` is 0.
pub(super) fn backward_sums<T: Element>(
    dy: &[T],
    y: Option<&[T]>,
    x: &[T],
    mean: &[T],
    inverse_deviation: &[T],
    p: Planes,
) -> Vec<f64> {
    let mean: Vec<f64> = mean.iter().map(|v| v.wide()).collect();
    let inverse: Vec<f64> = inverse_deviation.iter().map(|v| v.wide()).collect();
    let term = |dy: f64, x: f64, c: usize| (dy, dy * (x - mean[c]) * inverse[c]);
    match y {
        None => channel_sums(p, |i, c| term(dy[i].wide(), x[i].wide(), c)),
        Some(y) => channel_sums(p, |i, c| term(if y[i] > T::zero() { dy[i].wide() } else { 0.0 }, x[i].wide(), c)),
    }
}

/// `relu?(x·scale + shift + residual?)`.
pub(super) fn apply<T: Element>(
    x: &[T],
    scale: &[T],
    shift: &[T],
    residual: Option<&[T]>,
    relu: bool,
    p: Planes,
    out: &mut [T],
) {
    let rectify = |v: T| if relu && v <= T::zero() { T::zero() } else { v };
    each_plane(p, out, |c, range, out| {
        let (scale, shift) = (scale[c], shift[c]);
        match residual {
            None => out.iter_mut().zip(&x[range]).for_each(|(out, &x)| *out = rectify(x * scale + shift)),
            Some(residual) => {
                let pairs = x[range.clone()].iter().zip(&residual[range]);
                out.iter_mut().zip(pairs).for_each(|(out, (&x, &r))| *out = rectify(x * scale + shift + r));
            }
        }
    });
}

/// The per-channel numbers of a backward pass.
pub(super) struct BackwardScales<'a, T> {
    pub mean: &'a [T],
    pub inverse_deviation: &'a [T],
    pub weight: Option<&'a [T]>,
    pub mean_dy: &'a [T],
    pub mean_dy_xhat: &'a [T],
}

/// `dx = weight·inverse·(dy' − mean_dy − x̂·mean_dy_xhat)`.
pub(super) fn backward<T: Element>(dy: &[T], y: Option<&[T]>, x: &[T], s: &BackwardScales<T>, p: Planes, dx: &mut [T]) {
    each_plane(p, dx, |c, range, dx| {
        let (inverse, mean) = (s.inverse_deviation[c], s.mean[c]);
        let scale = s.weight.map_or(inverse, |weight| weight[c] * inverse);
        // scale·(dy' − mean_dy − (x − mean)·inverse·mean_dy_xhat) = scale·dy' + slope·x + offset
        let slope = T::zero() - scale * inverse * s.mean_dy_xhat[c];
        let offset = T::zero() - scale * s.mean_dy[c] - slope * mean;
        let pairs = dy[range.clone()].iter().zip(&x[range.clone()]);
        match y {
            None => dx.iter_mut().zip(pairs).for_each(|(dx, (&dy, &x))| *dx = scale * dy + slope * x + offset),
            Some(y) => dx.iter_mut().zip(pairs.zip(&y[range])).for_each(|(dx, ((&dy, &x), &y))| {
                let dy = if y > T::zero() { dy } else { T::zero() };
                *dx = scale * dy + slope * x + offset;
            }),
        }
    });
}

/// dy where the rectified output is above 0, else 0.
pub(super) fn masked<T: Element>(dy: &[T], y: &[T], out: &mut [T]) {
    out.par_chunks_mut(1 << 14).zip(dy.par_chunks(1 << 14).zip(y.par_chunks(1 << 14))).for_each(|(out, (dy, y))| {
        out.iter_mut()
            .zip(dy.iter().zip(y))
            .for_each(|(out, (&dy, &y))| *out = if y > T::zero() { dy } else { T::zero() });
    });
}

/// Calls `f(channel, range of the plane, plane of out)` for every plane, in parallel over pictures.
fn each_plane<T: Element>(p: Planes, out: &mut [T], f: impl Fn(usize, std::ops::Range<usize>, &mut [T]) + Sync) {
    let Planes { channels, area, .. } = p;
    out.par_chunks_mut(channels * area).enumerate().for_each(|(n, out)| {
        for (c, out) in out.chunks_mut(area).enumerate() {
            let start = (n * channels + c) * area;
            f(c, start..start + area, out);
        }
    });
}
