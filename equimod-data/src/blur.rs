//! torchvision's Gaussian blur on 8-bit pixels: weights and sums in f32, ties rounded to even.
//!
//! The reference convolves with the outer product of the weights. Here the two passes are separate, so that a value
//! whose exact result is close to a tie may differ by one level (the golden files allow 0.1 % of them).

use crate::image::{Image, Size};
use crate::simd::vectorized;

/// Weights below this share of the sum are left out: they cannot change a value by more than 255 times this much.
const NEGLIGIBLE: f32 = 1e-9;

/// The `kernel` weights of a Gaussian with standard deviation `sigma` in pixels: `exp(−½(x/σ)²)` at x = −k/2 … k/2,
/// divided by their sum.
pub fn weights(kernel: usize, sigma: f32) -> Vec<f32> {
    let half = (kernel / 2) as f32;
    let density = |x: usize| (-0.5 * ((x as f32 - half) / sigma).powi(2)).exp();
    let densities: Vec<f32> = (0..kernel).map(density).collect();
    let sum: f32 = densities.iter().sum();
    densities.into_iter().map(|d| d / sum).collect()
}

/// The [`weights`] that matter to 8-bit values, symmetric around their middle. There are none if `sigma` is not positive
/// or only one matters: then a blur leaves an image unchanged.
pub fn significant_weights(kernel: usize, sigma: f32) -> Vec<f32> {
    if sigma.is_nan() || sigma <= 0.0 {
        return Vec::new();
    }
    let mut weights = weights(kernel, sigma);
    let cut = weights.iter().take_while(|&&w| w < NEGLIGIBLE).count().min(kernel / 2);
    weights.truncate(kernel - cut);
    weights.drain(..cut);
    if weights.len() < 2 { Vec::new() } else { weights }
}

/// Blurs an image with a square kernel with the odd side `kernel` and the standard deviation `sigma` in pixels.
///
/// Edges are reflected without repeating the outermost pixel. If `sigma` is not positive, the image is returned
/// unchanged.
pub fn gaussian_blur(image: &Image, kernel: usize, sigma: f32) -> Image {
    let weights = &significant_weights(kernel, sigma)[..];
    if weights.is_empty() {
        return image.clone();
    }
    let half = weights.len() / 2;
    let Size { height, width } = image.size();
    let row = width * 3;
    let mut out = vec![0; image.pixels().len()];
    // Ring buffer of horizontally blurred rows, each computed once: row y of the image is at y modulo the buffer's
    // length.
    let mut lines = vec![0f32; weights.len() * row];
    let mut padded = vec![0f32; row + 6 * half];
    let mut blurred = 0;
    for (y, out) in out.chunks_exact_mut(row).enumerate() {
        while blurred < height.min(y + half + 1) {
            pad(&image.pixels()[blurred * row..][..row], half, &mut padded);
            let slot = blurred % weights.len();
            let line = &mut lines[slot * row..][..row];
            vectorized(
                #[inline(always)]
                || along(&padded, weights, line),
            );
            blurred += 1;
        }
        let reach = (0..weights.len()).map(|k| reflect((y + k) as isize - half as isize, height));
        let sources: Vec<usize> = reach.map(|source| source % weights.len() * row).collect();
        vectorized(
            #[inline(always)]
            || across(&lines, &sources, weights, out),
        );
    }
    Image::made(image.size(), out)
}

/// Index of the source pixel for `index`, reflected at the outermost pixels as often as needed.
fn reflect(index: isize, length: usize) -> usize {
    let period = (2 * (length as isize - 1)).max(1);
    let index = index.rem_euclid(period);
    index.min(period - index) as usize
}

/// A row in f32 with `half` reflected pixels at both ends.
fn pad(line: &[u8], half: usize, padded: &mut [f32]) {
    let width = line.len() / 3;
    for (value, &byte) in padded[3 * half..].iter_mut().zip(line) {
        *value = f32::from(byte);
    }
    let copy = |padded: &mut [f32], x: isize| {
        let (to, from) = ((x + half as isize) as usize * 3, reflect(x, width) * 3);
        for c in 0..3 {
            padded[to + c] = f32::from(line[from + c]);
        }
    };
    for x in 1..=half as isize {
        copy(padded, -x);
        copy(padded, width as isize - 1 + x);
    }
}

/// Number of values that are summed at a time.
const BLOCK: usize = 64;

/// Horizontal pass: `out[i] = Σ_k w_k · padded[i + 3k]`.
#[inline(always)]
fn along(padded: &[f32], weights: &[f32], out: &mut [f32]) {
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [0f32; BLOCK];
        let sums = &mut sums[..out.len()];
        for (k, &weight) in weights.iter().enumerate() {
            let values = &padded[block * BLOCK + 3 * k..][..sums.len()];
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
        out.copy_from_slice(sums);
    }
}

/// Vertical pass: `out[i] = round(Σ_k w_k · lines[sources_k + i])`.
#[inline(always)]
fn across(lines: &[f32], sources: &[usize], weights: &[f32], out: &mut [u8]) {
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [0f32; BLOCK];
        let sums = &mut sums[..out.len()];
        for (&source, &weight) in sources.iter().zip(weights) {
            let values = &lines[source + block * BLOCK..][..sums.len()];
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
        for (out, &sum) in out.iter_mut().zip(sums.iter()) {
            *out = sum.round_ties_even() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_reflected_for_images_of_any_size() {
        assert_eq!([-3, -2, -1, 0, 1, 2, 3, 4, 5].map(|i| reflect(i, 3)), [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!([-2, 0, 2].map(|i| reflect(i, 1)), [0, 0, 0]);
        for (height, width) in [(1, 1), (2, 3), (5, 1), (7, 40)] {
            let flat = Image::made(Size { height, width }, vec![77; height * width * 3]);
            assert_eq!(gaussian_blur(&flat, 23, 2.0), flat);
        }
    }

    #[test]
    fn a_point_spreads_in_proportion_to_the_weights() {
        let mut pixels = vec![0; 9 * 9 * 3];
        pixels[(4 * 9 + 4) * 3] = 255;
        let blurred = gaussian_blur(&Image::made(Size::square(9), pixels), 5, 1.0);
        let weights = weights(5, 1.0);
        for (y, x) in [(4, 4), (3, 5), (2, 4), (6, 6), (0, 4)] {
            let weight = |d: usize| weights.get(d).copied().filter(|_| d < 5).unwrap_or(0.0);
            let want = 255.0 * weight((y + 2usize).wrapping_sub(4)) * weight((x + 2usize).wrapping_sub(4));
            assert_eq!(blurred.pixels()[(y * 9 + x) * 3], want.round_ties_even() as u8, "{y} {x}");
        }
    }
}
