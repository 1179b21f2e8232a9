//! Pooling over rows of channels: max-pool with the indices of the maxima, and global average pool.

use pulp::Arch;
use rayon::prelude::*;

use super::vectors::unwritten;
use crate::backend::contract::PoolShape;
use crate::backend::cpu::vectorized_for;

/// Maximum of each window and the index of its pixel in the image; the first of equal values.
pub fn maximum(arch: Arch, x: &[f32], channels: usize, s: PoolShape) -> (Vec<f32>, Vec<u32>) {
    let (image_len, line) = (s.in_size.0 * s.in_size.1 * channels, s.out_size.1 * channels);
    let lines = x.len() / image_len.max(1) * s.out_size.0;
    let (mut out, mut winners) = (vec![0f32; lines * line], vec![0u32; lines * line]);
    out.par_chunks_mut(line).zip(winners.par_chunks_mut(line)).enumerate().for_each(|(k, (out, winners))| {
        let (x, oy) = (&x[k / s.out_size.0 * image_len..][..image_len], k % s.out_size.0);
        let pixels = out.chunks_exact_mut(channels).zip(winners.chunks_exact_mut(channels));
        for (ox, (out, winners)) in pixels.enumerate() {
            vectorized_for(
                arch,
                #[inline(always)]
                || {
                    let mut first = true;
                    for y in s.rows(oy) {
                        for place in s.columns(ox).map(|x| y * s.in_size.1 + x) {
                            let values = &x[place * channels..][..channels];
                            for ((best, winner), &value) in out.iter_mut().zip(winners.iter_mut()).zip(values) {
                                // A value that is not a number wins, so that it is not lost. Without branches, so that
                                // neighbors are compared side by side.
                                let wins = first | (value > *best) | (value.is_nan() & !best.is_nan());
                                *best = if wins { value } else { *best };
                                *winner = if wins { place as u32 } else { *winner };
                            }
                            first = false;
                        }
                    }
                },
            );
        }
    });
    (out, winners)
}

/// Adds each gradient at the index of its maximum, in images of `area` pixels.
pub fn maximum_backward(dy: &[f32], winners: &[u32], channels: usize, area: usize, out_area: usize) -> Vec<f32> {
    let (image_len, out_image_len) = (area * channels, out_area * channels);
    let mut dx = vec![0.0; dy.len() / out_image_len.max(1) * image_len];
    dx.par_chunks_mut(image_len).zip(dy.par_chunks(out_image_len).zip(winners.par_chunks(out_image_len))).for_each(
        |(dx, (dy, winners))| {
            for (pixel, winners) in dy.chunks_exact(channels).zip(winners.chunks_exact(channels)) {
                for (channel, (&dy, &winner)) in pixel.iter().zip(winners).enumerate() {
                    dx[winner as usize * channels + channel] += dy;
                }
            }
        },
    );
    dx
}

/// Mean of each channel over the `area` pixels of an image.
pub fn average(arch: Arch, x: &[f32], channels: usize, area: usize) -> Vec<f32> {
    let mut out = unwritten(x.len() / area.max(1));
    out.par_chunks_mut(channels).zip(x.par_chunks(area * channels)).for_each(|(out, x)| {
        let mut sums = vec![0f64; channels];
        vectorized_for(
            arch,
            #[inline(always)]
            || {
                for pixel in x.chunks_exact(channels) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += f64::from(value);
                    }
                }
                for (out, &sum) in out.iter_mut().zip(&sums) {
                    *out = (sum / area as f64) as f32;
                }
            },
        );
    });
    out
}

/// Gradient of each mean, distributed evenly over its image.
pub fn average_backward(dy: &[f32], channels: usize, area: usize) -> Vec<f32> {
    let share = 1.0 / area as f32;
    let mut dx = unwritten(dy.len() * area);
    dx.par_chunks_mut(area * channels).zip(dy.par_chunks(channels)).for_each(|(dx, dy)| {
        for pixel in dx.chunks_exact_mut(channels) {
            pixel.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = dy * share);
        }
    });
    dx
}
