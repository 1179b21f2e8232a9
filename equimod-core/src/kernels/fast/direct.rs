//! Convolution of any window and stride as products over the windows where they lie: in rows of channels, the values
//! of a window's row are neighbours, so that nothing is unfolded. Pictures are copied only where zeros surround them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Scratch, Shared, unwritten};
use super::product::{Multiply, Walk, groups, multiply, padded, widths};
use super::sums::{Partials, Rows, SHORT, add_sums};
use crate::kernels::shapes::ConvShape;

/// Values of the input that a task goes over, about, and the least and most pixels that it makes.
const TASK: usize = 1 << 15;
const PIXELS: Range<usize> = 48..384;
/// Values of all partial sums of a weight gradient, at most, and how many partial sums at most.
const PARTIAL_VALUES: usize = 1 << 23;
const PARTIALS: usize = 16;
/// Pixels that a weight gradient sums in registers, of as many pictures as it takes.
const DEPTH: usize = 96;
/// Outputs that are gathered together: a line of the cache.
const GATHERED: usize = 16;

/// Windows of a picture: output (i, j) is made of the taps from (i·step + first.0, j·step + first.1) on.
struct Plan {
    pictures: usize,
    taps: (usize, usize),
    step: usize,
    first: (isize, isize),
    in_size: (usize, usize),
    channels: usize,
    /// Outputs (i, j) that are made.
    count: (usize, usize),
    /// Channels of the output.
    outputs: usize,
    /// Pixels of an output picture, that of output (0, 0), and from one i or j to the next.
    out_area: usize,
    out_first: usize,
    out_step: (usize, usize),
}

impl Plan {
    fn forward(s: &ConvShape) -> Self {
        let mut plan = Self {
            pictures: s.batch,
            taps: s.kernel,
            step: s.stride,
            first: (-(s.padding as isize), -(s.padding as isize)),
            in_size: s.in_size,
            channels: s.in_channels,
            count: s.out_size,
            outputs: s.out_channels,
            out_area: s.out_size.0 * s.out_size.1,
            out_first: 0,
            out_step: (s.out_size.1, 1),
        };
        plan.flatten();
        plan
    }

    /// The input's pixels (ry + s·i, rx + s·j) are made of the taps that meet them, in turned order.
    fn backward(s: &ConvShape, (ry, rx): (usize, usize)) -> Option<Self> {
        let along = |rest: usize, kernel: usize, size: usize| {
            // Taps k with (rest + padding − k) divisible by the stride; the last of them reads the first output.
            let least = (rest + s.padding) % s.stride;
            let taps = kernel.saturating_sub(least).div_ceil(s.stride);
            let last = least + taps.max(1).saturating_sub(1) * s.stride;
            let first = (rest + s.padding) as isize - last as isize;
            (taps, first.div_euclid(s.stride as isize), size.saturating_sub(rest).div_ceil(s.stride))
        };
        let (vertical, horizontal) = (along(ry, s.kernel.0, s.in_size.0), along(rx, s.kernel.1, s.in_size.1));
        if vertical.2 == 0 || horizontal.2 == 0 {
            return None;
        }
        let mut plan = Self {
            pictures: s.batch,
            taps: (vertical.0, horizontal.0),
            step: 1,
            first: (vertical.1, horizontal.1),
            in_size: s.out_size,
            channels: s.out_channels,
            count: (vertical.2, horizontal.2),
            outputs: s.in_channels,
            out_area: s.in_size.0 * s.in_size.1,
            out_first: ry * s.in_size.1 + rx,
            out_step: (s.stride * s.in_size.1, s.stride),
        };
        plan.flatten();
        Some(plan)
    }

    /// Where a window is a pixel, pictures and lines are one long column of pixels.
    fn flatten(&mut self) {
        let plain = self.taps == (1, 1) && self.step == 1 && self.first == (0, 0) && self.count == self.in_size;
        if plain && self.out_step == (self.in_size.1, 1) && self.out_area == self.in_size.0 * self.in_size.1 {
            let pixels = self.pictures * self.out_area;
            (self.pictures, self.in_size, self.count) = (1, (pixels, 1), (pixels, 1));
            (self.out_area, self.out_step) = (pixels, (1, 1));
        }
    }

    /// Values of a window.
    fn depth(&self) -> usize {
        self.taps.0 * self.taps.1 * self.channels
    }

    /// Lines of outputs in a task.
    fn lines(&self) -> usize {
        self.pixels().div_ceil(self.count.1.max(1)).clamp(1, self.count.0)
    }

    /// `(pictures, lines)` of every task: lines of one picture, or several whole ones if they are small.
    fn tasks(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let lines = self.lines();
        let together = match lines < self.count.0 {
            true => 1,
            false => (self.pixels() / (self.count.0 * self.count.1).max(1)).max(1),
        };
        let of = |pictures: usize| {
            let pictures = pictures..(pictures + together).min(self.pictures);
            let starts = (0..self.count.0).step_by(lines);
            starts.map(move |line| (pictures.clone(), line..(line + lines).min(self.count.0)))
        };
        (0..self.pictures).step_by(together).flat_map(of).collect()
    }

    /// Outputs that a task aims at.
    fn pixels(&self) -> usize {
        (TASK / self.channels.max(1)).clamp(PIXELS.start, PIXELS.end)
    }
}

/// Weights as panels of columns: `[panel][window][columns of a panel]`, the last panel as wide as it needs.
struct Panels {
    values: Vec<f32>,
    width: usize,
    depth: usize,
}

impl Panels {
    /// `outputs` columns of `depth` rows; `fill(columns, wide, panel)` writes those columns into rows of `wide` values.
    fn new(
        width: usize,
        depth: usize,
        outputs: usize,
        lanes: usize,
        fill: impl Fn(Range<usize>, usize, &mut [f32]) + Sync,
    ) -> Self {
        let columns = outputs.div_ceil(lanes) * lanes;
        let mut values = vec![0.0; depth * columns];
        values.par_chunks_mut(depth * width).enumerate().for_each(|(panel, values)| {
            let (first, wide) = (panel * width, values.len() / depth.max(1));
            fill(first..(first + wide).min(outputs), wide, values);
        });
        Self { values, width, depth }
    }

    /// The panels, each with its first column and its width in memory.
    fn each(&self) -> impl Iterator<Item = (usize, &[f32], usize)> {
        let panels = self.values.chunks(self.depth * self.width).enumerate();
        panels.map(|(panel, values)| (panel * self.width, values, values.len() / self.depth))
    }
}

/// x `[N, H, W, C]`, w `[O, C, kh, kw]` → `[N, H', W', O]`, and its sums if they are wanted.
pub fn forward(arch: Arch, x: &[f32], w: &[f32], s: &ConvShape, sums: bool) -> (Vec<f32>, Option<Vec<f64>>) {
    let plan = Plan::forward(s);
    let (width, lanes) = widths(arch);
    let taps = s.kernel.0 * s.kernel.1;
    let inputs = s.in_channels;
    let panels = Panels::new(width, plan.depth(), s.out_channels, lanes, |columns, wide, panel| {
        for c in 0..inputs {
            for (column, output) in columns.clone().enumerate() {
                let values = &w[(output * inputs + c) * taps..][..taps];
                values.iter().enumerate().for_each(|(tap, &value)| panel[(tap * inputs + c) * wide + column] = value);
            }
        }
    });
    let mut out = unwritten(s.batch * s.out_channels * s.out_size.0 * s.out_size.1);
    let partials = convolve(arch, x, &plan, &panels, &mut out, sums);
    (out, partials.map(|partials| partials.sum(s.out_channels)))
}

/// dy `[N, H', W', O]`, w → dx `[N, H, W, C]`.
pub fn backward_data(arch: Arch, dy: &[f32], w: &[f32], s: &ConvShape) -> Vec<f32> {
    let (width, lanes) = widths(arch);
    let mut dx = unwritten(s.batch * s.in_channels * s.in_size.0 * s.in_size.1);
    for (ry, rx) in (0..s.stride).flat_map(|ry| (0..s.stride).map(move |rx| (ry, rx))) {
        let Some(plan) = Plan::backward(s, (ry, rx)) else { continue };
        let (ny, nx) = plan.taps;
        if ny * nx == 0 {
            clear(&mut dx, &plan);
            continue;
        }
        let (ky, kx) = ((ry + s.padding) % s.stride, (rx + s.padding) % s.stride);
        // From the last tap to the first.
        let tap = |ty: usize, tx: usize| (ky + (ny - 1 - ty) * s.stride) * s.kernel.1 + kx + (nx - 1 - tx) * s.stride;
        let taps: Vec<usize> = (0..ny * nx).map(|t| tap(t / nx, t % nx)).collect();
        let (area, outputs) = (s.kernel.0 * s.kernel.1, s.out_channels);
        let panels = Panels::new(width, plan.depth(), s.in_channels, lanes, |columns, wide, panel| {
            for o in 0..outputs {
                for (column, c) in columns.clone().enumerate() {
                    let values = &w[(o * s.in_channels + c) * area..][..area];
                    for (row, &tap) in taps.iter().enumerate() {
                        panel[(row * outputs + o) * wide + column] = values[tap];
                    }
                }
            }
        });
        convolve(arch, dy, &plan, &panels, &mut dx, false);
    }
    dx
}

/// Pixels that no tap meets.
fn clear(dx: &mut [f32], plan: &Plan) {
    dx.par_chunks_mut(plan.out_area * plan.outputs).for_each(|dx| {
        for (i, j) in (0..plan.count.0).flat_map(|i| (0..plan.count.1).map(move |j| (i, j))) {
            let pixel = plan.out_first + i * plan.out_step.0 + j * plan.out_step.1;
            dx[pixel * plan.outputs..][..plan.outputs].fill(0.0);
        }
    });
}

fn convolve(arch: Arch, x: &[f32], plan: &Plan, panels: &Panels, out: &mut [f32], sums: bool) -> Option<Partials> {
    let shared = Shared::new(out);
    let image = plan.in_size.0 * plan.in_size.1 * plan.channels;
    let task = |scratch: &mut Scratch, (pictures, lines): (Range<usize>, Range<usize>)| {
        let x = &x[pictures.start * image..pictures.end * image];
        let mut partial = vec![0.0; if sums { 2 * plan.outputs } else { 0 }];
        arch.dispatch(Task { x, pictures, lines, plan, panels, out: shared, scratch, sums: &mut partial });
        partial
    };
    let partials: Vec<Vec<f64>> = plan.tasks().into_par_iter().map_init(Scratch::default, task).collect();
    sums.then_some(Partials(partials))
}

/// Some lines of a picture's outputs, or all of several pictures'.
struct Task<'a> {
    x: &'a [f32],
    pictures: Range<usize>,
    lines: Range<usize>,
    plan: &'a Plan,
    panels: &'a Panels,
    out: Shared,
    scratch: &'a mut Scratch,
    sums: &'a mut [f64],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, pictures, lines, plan, panels, out, scratch, sums } = self;
        let (ny, nx) = plan.taps;
        let c = plan.channels;
        let size = ((lines.len() - 1) * plan.step + ny, (plan.count.1 - 1) * plan.step + nx);
        let first = ((lines.start * plan.step) as isize + plan.first.0, plan.first.1);
        let (x, row, image) = surrounded(x, plan, first, size, scratch);
        let area = lines.len() * plan.count.1;
        let pixels = pictures.len() * area;
        let place = |pixel: usize| {
            let (picture, pixel) = (pictures.start + pixel / area, pixel % area);
            let (i, j) = (lines.start + pixel / plan.count.1, pixel % plan.count.1);
            picture * plan.out_area + plan.out_first + i * plan.out_step.0 + j * plan.out_step.1
        };
        for (first, panel, wide) in panels.each() {
            let columns = wide.min(plan.outputs - first);
            let walk = Walk { count: [1, ny, nx * c], a: [0, row, 1], b: [0, nx * c * wide, wide] };
            let mut product = Multiply::new(walk, columns, false);
            product.b = panel.as_ptr();
            for group in groups::<S>(pixels, columns) {
                product.rows = group.len();
                for (m, pixel) in group.enumerate() {
                    let (picture, within) = (pixel / area, pixel % area);
                    let (i, j) = (within / plan.count.1, within % plan.count.1);
                    product.a[m] = x[picture * image + i * plan.step * row + j * plan.step * c..].as_ptr();
                    // SAFETY: `place` is a pixel of the output, which has `outputs` values.
                    product.out[m] = unsafe { out.at(place(pixel) * plan.outputs + first) };
                }
                // SAFETY: `surrounded` gives every window of these lines; the panel has a row of `wide` columns for each
                // value of a window; pixels are written by one task each.
                unsafe { multiply(simd, &product) };
            }
        }
        if !sums.is_empty() {
            // Lines of a forward pass lie side by side.
            let (first, second) = sums.split_at_mut(plan.outputs);
            for start in (0..pixels).step_by(SHORT) {
                // SAFETY: this task has written the pixels.
                unsafe {
                    let rows = Rows { first: out.at(place(start) * plan.outputs), count: SHORT.min(pixels - start) };
                    add_sums(simd, &[rows], plan.outputs, first, second);
                }
            }
        }
    }
}

/// The part of each picture from line and column `first` on, of `size`, with zeros where it leaves the picture; the
/// pictures themselves where it does not. Also gives the values from one line, and from one picture, to the next.
fn surrounded<'a>(
    x: &'a [f32],
    plan: &Plan,
    first: (isize, isize),
    (height, width): (usize, usize),
    scratch: &'a mut Scratch,
) -> (&'a [f32], usize, usize) {
    let ((in_height, in_width), c) = (plan.in_size, plan.channels);
    let image = in_height * in_width * c;
    let inside = |first: isize, length: usize, size: usize| first >= 0 && first as usize + length <= size;
    if inside(first.0, height, in_height) && inside(first.1, width, in_width) {
        return (&x[(first.0 as usize * in_width + first.1 as usize) * c..], in_width * c, image);
    }
    let copied = height * width * c;
    let copy = scratch.take(x.len() / image * copied);
    for (x, copy) in x.chunks_exact(image).zip(copy.chunks_exact_mut(copied)) {
        surround(x, plan, first, width, copy);
    }
    (copy, width * c, copied)
}

fn surround(x: &[f32], plan: &Plan, first: (isize, isize), width: usize, copy: &mut [f32]) {
    let ((in_height, in_width), c) = (plan.in_size, plan.channels);
    let left = (-first.1).max(0) as usize;
    let from = first.1.max(0) as usize;
    let length = in_width.saturating_sub(from).min(width.saturating_sub(left));
    for (y, line) in copy.chunks_exact_mut(width * c).enumerate() {
        match usize::try_from(first.0 + y as isize).ok().filter(|&y| y < in_height && length > 0) {
            None => line.fill(0.0),
            Some(y) => {
                line[..left * c].fill(0.0);
                line[left * c..][..length * c].copy_from_slice(&x[(y * in_width + from) * c..][..length * c]);
                line[(left + length) * c..].fill(0.0);
            }
        }
    }
}

/// x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, kh, kw]`.
pub fn backward_weight(arch: Arch, x: &[f32], dy: &[f32], s: &ConvShape) -> Vec<f32> {
    let (width, lanes) = widths(arch);
    let count = s.kernel.0 * s.kernel.1 * s.in_channels;
    let parts = (PARTIAL_VALUES / (count * s.out_channels).max(1)).clamp(1, PARTIALS).min(s.batch);
    let plan = Plan::forward(&ConvShape { batch: 1, ..*s });
    let windows = Plan { count: s.out_size, in_size: s.in_size, ..plan };
    let together = (DEPTH / (s.out_size.0 * s.out_size.1)).max(1);
    let panels: Vec<usize> = (0..s.out_channels).step_by(width).collect();
    let tasks: Vec<(usize, usize)> =
        (0..parts).flat_map(|part| panels.iter().map(move |&first| (part, first))).collect();
    let task = |(x_copy, dy_copy): &mut (Scratch, Scratch), (part, first): (usize, usize)| {
        let columns = width.min(s.out_channels - first);
        let mut sums = vec![0.0; count * columns.div_ceil(lanes) * lanes];
        let range = part * s.batch / parts..(part + 1) * s.batch / parts;
        for start in range.clone().step_by(together) {
            let pictures = start..(start + together).min(range.end);
            let operation =
                AddWeights { x, dy, pictures, first, columns, plan: &windows, s, sums: &mut sums, x_copy, dy_copy };
            arch.dispatch(operation);
        }
        sums
    };
    let partials: Vec<Vec<f32>> = tasks.into_par_iter().map_init(Default::default, task).collect();
    let mut dw = vec![0.0; s.out_channels * count];
    let gathered = GATHERED.min(width);
    dw.par_chunks_mut(gathered * count).enumerate().for_each(|(k, dw)| {
        let (panel, column) = (k * gathered / width, k * gathered % width);
        let wide = width.min(s.out_channels - panel * width).div_ceil(lanes) * lanes;
        for part in 0..parts {
            add_columns(dw, &partials[part * panels.len() + panel], (wide, column), s);
        }
    });
    dw
}

/// Adds columns of `sums` `[tap][channel][wide]` to as many rows `[channel][tap]`: a line of the cache at a time.
fn add_columns(dw: &mut [f32], sums: &[f32], (wide, column): (usize, usize), s: &ConvShape) {
    let (taps, channels) = (s.kernel.0 * s.kernel.1, s.in_channels);
    let count = taps * channels;
    for (c, tap) in (0..channels).flat_map(|c| (0..taps).map(move |tap| (c, tap))) {
        let values = &sums[(tap * channels + c) * wide + column..];
        for (row, value) in dw.chunks_exact_mut(count).zip(values) {
            row[c * taps + tap] += value;
        }
    }
}

/// Some pictures' share of the weight gradient of some output channels: `sums` `[window, columns]`.
struct AddWeights<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    pictures: Range<usize>,
    first: usize,
    columns: usize,
    plan: &'a Plan,
    s: &'a ConvShape,
    sums: &'a mut [f32],
    x_copy: &'a mut Scratch,
    dy_copy: &'a mut Scratch,
}

impl WithSimd for AddWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, dy, pictures, first, columns, plan, s, sums, x_copy, dy_copy } = self;
        let (c, (ny, nx), (lines, line)) = (s.in_channels, s.kernel, s.out_size);
        let size = ((lines - 1) * s.stride + ny, (line - 1) * s.stride + nx);
        let image = s.in_size.0 * s.in_size.1 * c;
        let x = &x[pictures.start * image..pictures.end * image];
        let (x, row, image) = surrounded(x, plan, plan.first, size, x_copy);
        let pixels = lines * line;
        let dy = &dy[pictures.start * pixels * s.out_channels..pictures.end * pixels * s.out_channels];
        let wide = padded::<S>(columns);
        let (dy, step) = if columns == wide {
            (&dy[first..], s.out_channels)
        } else {
            (whole_vectors(dy, s, first, columns, wide, dy_copy), wide)
        };
        let walk = Walk {
            count: [pictures.len(), lines, line],
            a: [image, s.stride * row, s.stride * c],
            b: [pixels * step, line * step, step],
        };
        let mut product = Multiply::new(walk, wide, true);
        product.b = dy.as_ptr();
        for ky in 0..ny {
            // The values of a window's row are neighbours.
            for group in groups::<S>(nx * c, wide) {
                product.rows = group.len();
                for (m, value) in group.enumerate() {
                    product.a[m] = x[ky * row + value..].as_ptr();
                    product.out[m] = sums[(ky * nx * c + value) * wide..][..wide].as_mut_ptr();
                }
                // SAFETY: `surrounded` gives every window; dy has `lines · line` rows of whole vectors for each picture;
                // `sums` has a row of `wide` values for every value of a window.
                unsafe { multiply(simd, &product) };
            }
        }
    }
}

/// Some channels of each pixel, with zeros up to whole vectors.
fn whole_vectors<'a>(
    dy: &[f32],
    s: &ConvShape,
    first: usize,
    columns: usize,
    wide: usize,
    copy: &'a mut Scratch,
) -> &'a [f32] {
    let copy = copy.take(dy.len() / s.out_channels * wide);
    for (values, pixel) in copy.chunks_exact_mut(wide).zip(dy.chunks_exact(s.out_channels)) {
        values[..columns].copy_from_slice(&pixel[first..][..columns]);
        values[columns..].fill(0.0);
    }
    copy
}
