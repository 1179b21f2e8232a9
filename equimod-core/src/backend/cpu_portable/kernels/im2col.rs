//! Convolution as matrix products with unfolded windows (im2col), a few images at a time.
//!
//! Work is split into groups of images whose size depends only on the shapes, and sums over groups are added in their
//! order. Results therefore do not depend on the number of threads.

use rayon::prelude::*;

use crate::backend::contract::ConvShape;
use crate::backend::cpu::{Element, Matrix, gemm};

/// Smallest number of columns of a group, so that the products are efficient for small feature maps.
const COLUMNS: usize = 256;
/// Largest number of partial sums of a weight gradient.
const PARTIALS: usize = 8;

impl ConvShape {
    /// Number of rows of the unfolded matrix of one channel group.
    fn window(&self) -> usize {
        self.in_channels / self.groups * self.kernel.0 * self.kernel.1
    }

    fn out_area(&self) -> usize {
        self.out_size.0 * self.out_size.1
    }

    fn in_plane(&self) -> usize {
        self.in_size.0 * self.in_size.1
    }

    /// Number of images in a group.
    fn group(&self) -> usize {
        COLUMNS.div_ceil(self.out_area().max(1)).clamp(1, self.batch.max(1))
    }

    /// Whether the unfolded matrix is the input itself.
    fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.padding == 0
    }
}

/// Convolution: x `[N, C, H, W]`, w `[O, C/g, kh, kw]` → out `[N, O, H', W']`.
pub fn forward<T: Element>(x: &[T], w: &[T], s: &ConvShape, out: &mut [T]) {
    let (image_len, out_image_len) = (s.in_channels * s.in_plane(), s.out_channels * s.out_area());
    let group = s.group();
    let (rows, window) = (s.out_channels / s.groups, s.window());
    out.par_chunks_mut(group * out_image_len).zip(x.par_chunks(group * image_len)).for_each_init(
        Scratch::default,
        |scratch, (out, x)| {
            let images = x.len() / image_len;
            let columns = images * s.out_area();
            for g in 0..s.groups {
                let weights = &w[g * rows * window..][..rows * window];
                if images == 1 {
                    let unfolded = unfold(x, 1, g, s, &mut scratch.columns);
                    let out = &mut out[g * rows * columns..][..rows * columns];
                    gemm(
                        (rows, window, columns),
                        Matrix::rows(weights, window),
                        Matrix::rows(unfolded, columns),
                        (out, columns),
                        false,
                    );
                    continue;
                }
                let unfolded = unfold(x, images, g, s, &mut scratch.columns);
                let product = sized(&mut scratch.product, rows * columns);
                gemm(
                    (rows, window, columns),
                    Matrix::rows(weights, window),
                    Matrix::rows(unfolded, columns),
                    (product, columns),
                    false,
                );
                scatter(product, out, images, g, s);
            }
        },
    );
}

/// Gradient of the input: dy `[N, O, H', W']`, w → dx `[N, C, H, W]`.
pub fn backward_data<T: Element>(dy: &[T], w: &[T], s: &ConvShape, dx: &mut [T]) {
    let (image_len, out_image_len) = (s.in_channels * s.in_plane(), s.out_channels * s.out_area());
    let group = s.group();
    let (rows, window) = (s.out_channels / s.groups, s.window());
    dx.par_chunks_mut(group * image_len).zip(dy.par_chunks(group * out_image_len)).for_each_init(
        Scratch::default,
        |scratch, (dx, dy)| {
            let images = dx.len() / image_len;
            let columns = images * s.out_area();
            for g in 0..s.groups {
                let weights = Matrix::rows(&w[g * rows * window..][..rows * window], window).transposed();
                let dy = gather(dy, images, g, s, &mut scratch.product);
                let unfolded = sized(&mut scratch.columns, window * columns);
                gemm((window, rows, columns), weights, Matrix::rows(dy, columns), (unfolded, columns), false);
                fold(unfolded, dx, images, g, s);
            }
        },
    );
}

/// Gradient of the weight: x, dy → dw `[O, C/g, kh, kw]`.
pub fn backward_weight<T: Element>(x: &[T], dy: &[T], s: &ConvShape, dw: &mut [T]) {
    let (image_len, out_image_len) = (s.in_channels * s.in_plane(), s.out_channels * s.out_area());
    let (rows, window) = (s.out_channels / s.groups, s.window());
    // Each partial sum covers whole groups.
    let group = s.group();
    let groups = s.batch.div_ceil(group);
    let share = groups.div_ceil(PARTIALS).max(1) * group;
    let partials: Vec<Vec<T>> = x
        .par_chunks(share * image_len)
        .zip(dy.par_chunks(share * out_image_len))
        .map_init(Scratch::default, |scratch, (x, dy)| {
            let mut sum = vec![T::zero(); dw.len()];
            for (x, dy) in x.chunks(group * image_len).zip(dy.chunks(group * out_image_len)) {
                let images = x.len() / image_len;
                let columns = images * s.out_area();
                for g in 0..s.groups {
                    let unfolded = unfold(x, images, g, s, &mut scratch.columns);
                    let dy = gather(dy, images, g, s, &mut scratch.product);
                    let sum = &mut sum[g * rows * window..][..rows * window];
                    let transposed = Matrix::rows(unfolded, columns).transposed();
                    gemm((rows, columns, window), Matrix::rows(dy, columns), transposed, (sum, window), true);
                }
            }
            sum
        })
        .collect();
    dw.fill(T::zero());
    for partial in partials {
        for (sum, value) in dw.iter_mut().zip(partial) {
            *sum += value;
        }
    }
}

struct Scratch<T> {
    columns: Vec<T>,
    product: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { columns: Vec::new(), product: Vec::new() }
    }
}

fn sized<T: Element>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::zero());
    }
    &mut buffer[..length]
}

/// Unfolds channel group `g` of some images into a matrix `[window, images · H' · W']`.
fn unfold<'a, T: Element>(x: &'a [T], images: usize, g: usize, s: &ConvShape, buffer: &'a mut Vec<T>) -> &'a [T] {
    let channels = s.in_channels / s.groups;
    let (plane, area) = (s.in_plane(), s.out_area());
    if s.is_pointwise() && images == 1 {
        return &x[g * channels * plane..][..channels * plane];
    }
    let columns = images * area;
    let out = sized(buffer, s.window() * columns);
    let mut row = 0;
    for channel in 0..channels {
        for ky in 0..s.kernel.0 {
            for kx in 0..s.kernel.1 {
                for image in 0..images {
                    let plane = &x[(image * s.in_channels + g * channels + channel) * plane..][..plane];
                    unfold_plane(plane, (ky, kx), s, &mut out[row * columns + image * area..][..area]);
                }
                row += 1;
            }
        }
    }
    out
}

/// Range of output columns inside the image for column `kx` of the kernel, and the input column of the first.
fn span(kx: usize, s: &ConvShape) -> (usize, usize, usize) {
    let (width, out_width) = (s.in_size.1, s.out_size.1);
    let first = s.padding.saturating_sub(kx).div_ceil(s.stride);
    let end = (width + s.padding).saturating_sub(kx).div_ceil(s.stride).min(out_width).max(first.min(out_width));
    let first = first.min(end);
    (first, end, (first * s.stride + kx).saturating_sub(s.padding))
}

fn unfold_plane<T: Element>(plane: &[T], (ky, kx): (usize, usize), s: &ConvShape, out: &mut [T]) {
    let ((height, width), out_width) = (s.in_size, s.out_size.1);
    let (first, end, start) = span(kx, s);
    for (oy, out) in out.chunks_exact_mut(out_width).enumerate() {
        let y = (oy * s.stride + ky).wrapping_sub(s.padding);
        if y >= height || first == end {
            out.fill(T::zero());
            continue;
        }
        out[..first].fill(T::zero());
        out[end..].fill(T::zero());
        let line = &plane[y * width..][..width];
        match s.stride {
            1 => out[first..end].copy_from_slice(&line[start..start + end - first]),
            stride => {
                for (value, source) in out[first..end].iter_mut().zip(line[start..].iter().step_by(stride)) {
                    *value = *source;
                }
            }
        }
    }
}

/// Adjoint of [`unfold`], which adds every window back to its pixels.
fn fold<T: Element>(unfolded: &[T], dx: &mut [T], images: usize, g: usize, s: &ConvShape) {
    let channels = s.in_channels / s.groups;
    let (plane, area) = (s.in_plane(), s.out_area());
    let columns = images * area;
    let mut row = 0;
    for channel in 0..channels {
        for offset in 0..s.kernel.0 * s.kernel.1 {
            let (ky, kx) = (offset / s.kernel.1, offset % s.kernel.1);
            for image in 0..images {
                let dx = &mut dx[(image * s.in_channels + g * channels + channel) * plane..][..plane];
                if offset == 0 {
                    dx.fill(T::zero());
                }
                fold_plane(&unfolded[row * columns + image * area..][..area], (ky, kx), s, dx);
            }
            row += 1;
        }
    }
}

fn fold_plane<T: Element>(unfolded: &[T], (ky, kx): (usize, usize), s: &ConvShape, dx: &mut [T]) {
    let ((height, width), out_width) = (s.in_size, s.out_size.1);
    let (first, end, start) = span(kx, s);
    for (oy, values) in unfolded.chunks_exact(out_width).enumerate() {
        let y = (oy * s.stride + ky).wrapping_sub(s.padding);
        if y >= height || first == end {
            continue;
        }
        let line = &mut dx[y * width..][..width];
        match s.stride {
            1 => {
                for (sum, value) in line[start..].iter_mut().zip(&values[first..end]) {
                    *sum += *value;
                }
            }
            stride => {
                for (sum, value) in line[start..].iter_mut().step_by(stride).zip(&values[first..end]) {
                    *sum += *value;
                }
            }
        }
    }
}

/// Output channels of group `g` as a matrix `[O/g, images · H' · W']`.
fn gather<'a, T: Element>(dy: &'a [T], images: usize, g: usize, s: &ConvShape, buffer: &'a mut Vec<T>) -> &'a [T] {
    let (rows, area) = (s.out_channels / s.groups, s.out_area());
    if images == 1 {
        return &dy[g * rows * area..][..rows * area];
    }
    let columns = images * area;
    let out = sized(buffer, rows * columns);
    for image in 0..images {
        for row in 0..rows {
            let source = &dy[((image * s.groups + g) * rows + row) * area..][..area];
            out[row * columns + image * area..][..area].copy_from_slice(source);
        }
    }
    out
}

/// Adjoint of [`gather`].
fn scatter<T: Element>(product: &[T], out: &mut [T], images: usize, g: usize, s: &ConvShape) {
    let (rows, area) = (s.out_channels / s.groups, s.out_area());
    let columns = images * area;
    for image in 0..images {
        for row in 0..rows {
            let target = &mut out[((image * s.groups + g) * rows + row) * area..][..area];
            target.copy_from_slice(&product[row * columns + image * area..][..area]);
        }
    }
}
