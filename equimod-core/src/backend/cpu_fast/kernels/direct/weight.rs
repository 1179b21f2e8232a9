//! Weight gradient: products of window values and gradients, summed over all pixels.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::microkernel::{PANEL, Panel, Walk, multiply, padded, padded_for, panels};
use super::super::tasks::each;
use super::super::vectors::{LINE, Scratch, Shared, spread};
use crate::backend::contract::ConvShape;

/// Approximate number of tasks, if the gradient has fewer parts.
const TASKS: usize = 16;
/// Pixels that are summed in registers; values of a window's line, and outputs, that are summed at once.
const DEPTH: usize = 96;
const VALUES: usize = 512;
const OUTPUTS: usize = 4 * PANEL;

/// x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, kh, kw]`.
pub fn backward_weight(arch: Arch, x: &[f32], dy: &[f32], s: &ConvShape) -> Vec<f32> {
    let (ny, nx) = s.kernel;
    let line = nx * s.in_channels;
    // Shares of the gradient: some outputs, a line of the window, and values of that line.
    let shares: Vec<Share> = (0..s.out_channels)
        .step_by(OUTPUTS)
        .map(|first| first..(first + OUTPUTS).min(s.out_channels))
        .flat_map(|columns| (0..ny).map(move |tap| (columns.clone(), tap)))
        .flat_map(|(columns, tap)| {
            let starts = (0..line).step_by(VALUES);
            starts.map(move |start| Share { columns: columns.clone(), tap, values: start..(start + VALUES).min(line) })
        })
        .collect();
    let pixels = s.batch * s.out_size.0 * s.out_size.1;
    let parts = (TASKS / shares.len().max(1)).clamp(1, pixels.div_ceil(DEPTH));
    let tasks: Vec<(&Share, usize)> =
        shares.iter().flat_map(|share| (0..parts).map(move |part| (share, part))).collect();
    let task = |copies: &mut [Scratch; 2], (share, part): (&Share, usize)| {
        let pixels = part * pixels / parts..(part + 1) * pixels / parts;
        let mut sums = vec![0.0; share.values.len() * padded_for(arch, share.columns.len())];
        arch.dispatch(AddWeights { x, dy, s, share, pixels, sums: &mut sums, copies });
        sums
    };
    let sums: Vec<Vec<f32>> = tasks.into_par_iter().map_init(Default::default, task).collect();
    let count = ny * line;
    let mut dw = vec![0.0; s.out_channels * count];
    let values = sums.iter().map(Vec::len).sum();
    each(dw.chunks_mut(LINE * count).enumerate().collect(), values, |(k, dw)| {
        let first = k * LINE;
        let of_panel = shares.iter().zip(sums.chunks(parts)).filter(|(share, _)| share.columns.contains(&first));
        for (share, parts) in of_panel {
            parts.iter().for_each(|sums| add_columns(dw, sums, share, first - share.columns.start, s));
        }
    });
    dw
}

/// A part of a weight gradient: some output channels, and some values of the window's line `tap`.
struct Share {
    columns: Range<usize>,
    tap: usize,
    values: Range<usize>,
}

/// Adds columns of `sums` `[value][wide]`, from `column` on, to as many rows `[channel][tap]`, one cache line at a
/// time.
fn add_columns(dw: &mut [f32], sums: &[f32], share: &Share, column: usize, s: &ConvShape) {
    let (taps, channels) = (s.kernel.0 * s.kernel.1, s.in_channels);
    let wide = sums.len() / share.values.len();
    for (value, sums) in share.values.clone().zip(sums.chunks_exact(wide)) {
        let (tap, channel) = (share.tap * s.kernel.1 + value / channels, value % channels);
        for (row, sum) in dw.chunks_exact_mut(taps * channels).zip(&sums[column..]) {
            row[channel * taps + tap] += sum;
        }
    }
}

/// Sums of this part over some output pixels, counted over all images: `sums` `[value, columns]`.
struct AddWeights<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    s: &'a ConvShape,
    share: &'a Share,
    pixels: Range<usize>,
    sums: &'a mut [f32],
    copies: &'a mut [Scratch; 2],
}

impl WithSimd for AddWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, dy, s, share, pixels, sums, copies: [x_copy, dy_copy] } = self;
        let (values, wide) = (share.values.len(), padded::<S>(share.columns.len()));
        let step = spread(values);
        for start in pixels.clone().step_by(DEPTH) {
            let pixels = start..(start + DEPTH).min(pixels.end);
            let count = pixels.len();
            let x = windows(x, s, share, pixels, step, x_copy);
            let (a, out) = (x.as_ptr(), Shared::new(sums));
            for panel in panels(share.columns.len()) {
                let (first, columns) = (panel.start, padded::<S>(panel.len()));
                let panel = share.columns.start + panel.start..share.columns.start + panel.end;
                let dy =
                    rows_of_vectors(&dy[start * s.out_channels..], panel, count, (s.out_channels, columns), dy_copy);
                let walk = Walk { count: [1, 1, count], a: [0, 0, step], b: [0, 0, columns] };
                // SAFETY: `sums` has a row of `wide` values for every value.
                let place = |value: usize| (a.wrapping_add(value), unsafe { out.at(value * wide + first) });
                // SAFETY: x has a row of values and dy one of whole vectors for each pixel.
                unsafe { multiply(simd, Panel { walk, b: dy.as_ptr(), columns, add: true }, values, place) };
            }
        }
    }
}

/// Window values of this part for each pixel, with zeros outside of the image, in rows of `step`.
fn windows<'a>(
    x: &[f32],
    s: &ConvShape,
    share: &Share,
    pixels: Range<usize>,
    step: usize,
    copy: &'a mut Scratch,
) -> &'a [f32] {
    let ((height, width), c) = (s.in_size, s.in_channels);
    let copy = copy.take(pixels.len() * step);
    let lines = pixels.start / s.out_size.1..pixels.end.div_ceil(s.out_size.1);
    let mut rows = copy.chunks_exact_mut(step);
    for line in lines {
        let (image, i) = (line / s.out_size.0, line % s.out_size.0);
        let y = (i * s.stride + share.tap).checked_sub(s.padding).filter(|&y| y < height);
        let first = line * s.out_size.1;
        let columns = pixels.start.max(first) - first..pixels.end.min(first + s.out_size.1) - first;
        for (j, row) in columns.zip(&mut rows) {
            let row = &mut row[..share.values.len()];
            let Some(y) = y else {
                row.fill(0.0);
                continue;
            };
            // The window's line starts `padding` pixels before that of the image.
            let (from, end) = (j * s.stride * c + share.values.start, s.padding * c);
            let before = end.saturating_sub(from).min(row.len());
            let inside = (end + width * c).saturating_sub(from).min(row.len()).max(before);
            row[..before].fill(0.0);
            if before < inside {
                let line = &x[(image * height + y) * width * c..][..width * c];
                row[before..inside].copy_from_slice(&line[from + before - end..][..inside - before]);
            }
            row[inside..].fill(0.0);
        }
    }
    copy
}

/// Some columns of `count` pixels of dy, padded with zeros to whole vectors; dy itself if no padding is needed.
fn rows_of_vectors<'a>(
    dy: &'a [f32],
    columns: Range<usize>,
    count: usize,
    (outputs, wide): (usize, usize),
    copy: &'a mut Scratch,
) -> &'a [f32] {
    if columns == (0..outputs) && wide == outputs {
        return dy;
    }
    let copy = copy.take(count * wide);
    for (values, pixel) in copy.chunks_exact_mut(wide).zip(dy.chunks_exact(outputs)) {
        values[..columns.len()].copy_from_slice(&pixel[columns.clone()]);
        values[columns.len()..].fill(0.0);
    }
    copy
}
