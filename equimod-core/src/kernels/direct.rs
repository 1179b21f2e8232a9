//! 3×3 convolution of stride 1 and padding 1 without unfolding, in f32, for few channels: there, writing and packing
//! the unfolded windows costs more than the products.
//!
//! A block of output channels and a run of one row are held in AVX2 registers while every input channel passes by;
//! processors without AVX2 and FMA, found out at run time, unfold.

#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use rayon::prelude::*;

use super::ConvShape;

/// Most channels on either side; beyond, unfolding and packing are paid back by larger products.
const MOST_CHANNELS: usize = 64;
/// Most partial sums of a weight gradient.
const PARTIALS: usize = 8;
/// Taps of the kernel.
const TAPS: usize = 9;
/// Values of a vector.
const LANES: usize = 8;
/// Output channels that the weight gradient adds at once.
const ROWS: usize = 4;

/// Whether these kernels take a shape on this machine.
pub(super) fn takes(s: &ConvShape) -> bool {
    let shape = s.kernel == (3, 3) && s.stride == 1 && s.padding == 1 && s.groups == 1;
    let size = s.in_size.1.is_multiple_of(LANES) && s.in_channels.max(s.out_channels) <= MOST_CHANNELS;
    shape && size && s.in_channels >= 4 && s.out_channels.is_multiple_of(ROWS) && available()
}

/// Whether the processor has what the kernels are compiled for.
fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// x `[N, C, H, W]`, w `[O, C, 3, 3]` → out `[N, O, H, W]`.
pub(super) fn forward(x: &[f32], w: &[f32], s: &ConvShape, out: &mut [f32]) {
    let weight = |o: usize, c: usize, tap: usize| w[(o * s.in_channels + c) * TAPS + tap];
    convolve(x, s.in_channels, s.out_channels, s.in_size, weight, out);
}

/// dy `[N, O, H, W]`, w → dx `[N, C, H, W]`: the same with channels exchanged and the kernel turned by half a circle.
pub(super) fn backward_data(dy: &[f32], w: &[f32], s: &ConvShape, dx: &mut [f32]) {
    let weight = |c: usize, o: usize, tap: usize| w[(o * s.in_channels + c) * TAPS + TAPS - 1 - tap];
    convolve(dy, s.out_channels, s.in_channels, s.in_size, weight, dx);
}

fn convolve(
    x: &[f32],
    inputs: usize,
    outputs: usize,
    size: (usize, usize),
    weight: impl Fn(usize, usize, usize) -> f32,
    out: &mut [f32],
) {
    match size.1.is_multiple_of(16) {
        true => convolve_by::<2, 4>(x, inputs, outputs, size, weight, out),
        false => convolve_by::<1, 8>(x, inputs, outputs, size, weight, out),
    }
}

/// With runs of `V` vectors and blocks of `B` output channels.
fn convolve_by<const V: usize, const B: usize>(
    x: &[f32],
    inputs: usize,
    outputs: usize,
    size: (usize, usize),
    weight: impl Fn(usize, usize, usize) -> f32,
    out: &mut [f32],
) {
    let area = size.0 * size.1;
    // [block][input channel][tap][output channel of the block], zeros past the last channel.
    let blocks = outputs.div_ceil(B);
    let mut weights = vec![[0f32; B]; blocks * inputs * TAPS];
    for (i, group) in weights.iter_mut().enumerate() {
        let (block, c, tap) = (i / (inputs * TAPS), i / TAPS % inputs, i % TAPS);
        for (o, value) in (block * B..outputs).zip(group) {
            *value = weight(o, c, tap);
        }
    }
    out.par_chunks_mut(outputs * area).zip(x.par_chunks(inputs * area)).for_each_init(Vec::new, |padded, (out, x)| {
        pad(x, size, padded);
        for (block, weights) in weights.chunks_exact(inputs * TAPS).enumerate() {
            let out = &mut out[block * B * area..];
            // SAFETY: `takes` has found AVX2 and FMA.
            unsafe { picture::<V, B>(padded, weights, size, out) };
        }
    });
}

/// The vector at the start of `values`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn load(values: &[f32]) -> __m256 {
    let values = &values[..LANES];
    // SAFETY: the slice holds the eight values that are read; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Writes a vector to the start of `values`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn store(values: &mut [f32], vector: __m256) {
    let values = &mut values[..LANES];
    // SAFETY: the slice holds the eight values that are written; the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), vector) }
}

/// One picture, one block of output channels; `out` starts at the block and may end inside it.
#[target_feature(enable = "avx2,fma")]
fn picture<const V: usize, const B: usize>(
    padded: &[f32],
    weights: &[[f32; B]],
    (height, width): (usize, usize),
    out: &mut [f32],
) {
    let (row, plane) = (width + 2, (height + 2) * (width + 2));
    for y in 0..height {
        for x in (0..width).step_by(V * LANES) {
            let mut sums = [[_mm256_setzero_ps(); V]; B];
            for (channel, weights) in weights.chunks_exact(TAPS).enumerate() {
                for ky in 0..3 {
                    let line = &padded[channel * plane + (y + ky) * row + x..][..V * LANES + 2];
                    for kx in 0..3 {
                        let mut values = [_mm256_setzero_ps(); V];
                        for v in 0..V {
                            values[v] = load(&line[kx + v * LANES..]);
                        }
                        let weights = &weights[3 * ky + kx];
                        for b in 0..B {
                            let weight = _mm256_set1_ps(weights[b]);
                            for v in 0..V {
                                sums[b][v] = _mm256_fmadd_ps(values[v], weight, sums[b][v]);
                            }
                        }
                    }
                }
            }
            for (sums, out) in sums.into_iter().zip(out.chunks_mut(height * width)) {
                for (v, sum) in sums.into_iter().enumerate() {
                    store(&mut out[y * width + x + v * LANES..], sum);
                }
            }
        }
    }
}

/// A picture with a border of zeros.
fn pad(x: &[f32], (height, width): (usize, usize), padded: &mut Vec<f32>) {
    let (row, channels) = (width + 2, x.len() / (height * width));
    // The border stays zero from the first picture on: every picture of a task has the same size.
    padded.resize(channels * (height + 2) * row, 0.0);
    for (plane, target) in x.chunks_exact(height * width).zip(padded.chunks_exact_mut((height + 2) * row)) {
        for (line, target) in plane.chunks_exact(width).zip(target[row..].chunks_exact_mut(row)) {
            target[1..=width].copy_from_slice(line);
        }
    }
}

/// x, dy → dw `[O, C, 3, 3]`.
pub(super) fn backward_weight(x: &[f32], dy: &[f32], s: &ConvShape, dw: &mut [f32]) {
    let area = s.in_size.0 * s.in_size.1;
    let (image, out_image) = (s.in_channels * area, s.out_channels * area);
    let share = s.batch.div_ceil(PARTIALS).max(1);
    let partials: Vec<Vec<f32>> = x
        .par_chunks(share * image)
        .zip(dy.par_chunks(share * out_image))
        .map_init(Vec::new, |padded, (x, dy)| {
            let mut sums = vec![0f32; dw.len() * LANES];
            for (x, dy) in x.chunks_exact(image).zip(dy.chunks_exact(out_image)) {
                pad(x, s.in_size, padded);
                // SAFETY: `takes` has found AVX2 and FMA.
                unsafe { add_weight_gradient(padded, dy, s.in_channels, s.in_size, &mut sums) };
            }
            sums
        })
        .collect();
    // [block][input channel][kernel row][output channel of the block][tap of the row][lane]
    for (i, value) in dw.iter_mut().enumerate() {
        let (o, c, ky, kx) = (i / (s.in_channels * TAPS), i / TAPS % s.in_channels, i % TAPS / 3, i % 3);
        let place = (((o / ROWS * s.in_channels + c) * 3 + ky) * ROWS + o % ROWS) * 3 + kx;
        *value = partials.iter().map(|sums| sums[place * LANES..][..LANES].iter().sum::<f32>()).sum();
    }
}

/// Adds one picture's share to the running vectors.
#[target_feature(enable = "avx2,fma")]
fn add_weight_gradient(padded: &[f32], dy: &[f32], channels: usize, size: (usize, usize), sums: &mut [f32]) {
    let (plane, row) = ((size.0 + 2) * (size.1 + 2), size.1 + 2);
    let block = 3 * ROWS * 3 * LANES;
    for (sums, dy) in sums.chunks_exact_mut(channels * block).zip(dy.chunks_exact(ROWS * size.0 * size.1)) {
        for (sums, padded) in sums.chunks_exact_mut(block).zip(padded.chunks_exact(plane)) {
            for (ky, sums) in sums.chunks_exact_mut(block / 3).enumerate() {
                taps(&padded[ky * row..], dy, size, sums);
            }
        }
    }
}

/// Adds Σ dy·x over a picture for a block of output channels and the three taps of one kernel row.
#[target_feature(enable = "avx2,fma")]
fn taps(padded: &[f32], dy: &[f32], (height, width): (usize, usize), sums: &mut [f32]) {
    let area = height * width;
    let mut vectors = [[_mm256_setzero_ps(); 3]; ROWS];
    for r in 0..ROWS {
        for kx in 0..3 {
            vectors[r][kx] = load(&sums[(3 * r + kx) * LANES..]);
        }
    }
    for y in 0..height {
        for x in (0..width).step_by(LANES) {
            let line = &padded[y * (width + 2) + x..][..LANES + 2];
            let values = [load(line), load(&line[1..]), load(&line[2..])];
            for r in 0..ROWS {
                let dy = load(&dy[r * area + y * width + x..]);
                for kx in 0..3 {
                    vectors[r][kx] = _mm256_fmadd_ps(values[kx], dy, vectors[r][kx]);
                }
            }
        }
    }
    for r in 0..ROWS {
        for kx in 0..3 {
            store(&mut sums[(3 * r + kx) * LANES..], vectors[r][kx]);
        }
    }
}
