//! Direct convolution for any window and stride. In rows of channels, the values of a window's row are adjacent, so the
//! products read windows in place, without unfolding. Images are copied only if they need padding.

mod weight;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

pub use weight::backward_weight;

use super::channel_sums::{Partials, Sums};
use super::microkernel::{PANEL, Panel, Walk, multiply, padded_for};
use super::target::Target;
use super::tasks::each;
use super::vectors::{Scratch, Shared, unwritten};
use crate::backend::contract::{Accumulate, ConvShape};

/// Approximate number of input values of a task, and the smallest and largest number of pixels that it computes.
const TASK: usize = 1 << 15;
const PIXELS: Range<usize> = 48..384;
/// Number of window values that are multiplied at once.
const PIECE: usize = 128;

/// Windows of an image: output (i, j) is computed from the taps starting at (i·step + first.0, j·step + first.1).
struct Plan {
    images: usize,
    taps: (usize, usize),
    step: usize,
    first: (isize, isize),
    in_size: (usize, usize),
    channels: usize,
    /// Number of outputs (i, j) that are computed.
    count: (usize, usize),
    /// Number of output channels.
    outputs: usize,
    /// Number of pixels of an output image, pixel of output (0, 0), and strides in pixels along i and j.
    out_area: usize,
    out_first: usize,
    out_step: (usize, usize),
}

impl Plan {
    fn forward(s: &ConvShape) -> Self {
        let mut plan = Self {
            images: s.batch,
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

    /// The input's pixels (ry + s·i, rx + s·j) are computed from the taps that cover them, in reverse order.
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
            images: s.batch,
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

    /// Merges images and lines into one long column of pixels if a window is one pixel.
    fn flatten(&mut self) {
        let plain = self.taps == (1, 1) && self.step == 1 && self.first == (0, 0) && self.count == self.in_size;
        if plain && self.out_step == (self.in_size.1, 1) && self.out_area == self.in_size.0 * self.in_size.1 {
            let pixels = self.images * self.out_area;
            (self.images, self.in_size, self.count) = (1, (pixels, 1), (pixels, 1));
            (self.out_area, self.out_step) = (pixels, (1, 1));
        }
    }

    /// Number of values of a window.
    fn depth(&self) -> usize {
        self.taps.0 * self.taps.1 * self.channels
    }

    /// Number of output lines of a task.
    fn lines(&self) -> usize {
        self.pixels().div_ceil(self.count.1.max(1)).clamp(1, self.count.0)
    }

    /// `(images, lines)` of every task: lines of one image, or several whole ones if they are small.
    fn tasks(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let lines = self.lines();
        let together = match lines < self.count.0 {
            true => 1,
            false => (self.pixels() / (self.count.0 * self.count.1).max(1)).max(1),
        };
        let of = |images: usize| {
            let images = images..(images + together).min(self.images);
            let starts = (0..self.count.0).step_by(lines);
            starts.map(move |line| (images.clone(), line..(line + lines).min(self.count.0)))
        };
        (0..self.images).step_by(together).flat_map(of).collect()
    }

    /// Target number of outputs of a task.
    fn pixels(&self) -> usize {
        (TASK / self.channels.max(1)).clamp(PIXELS.start, PIXELS.end)
    }
}

/// Weights as panels of columns: `[panel][window][columns of a panel]`; the last panel may be narrower.
struct Panels {
    values: Vec<f32>,
    depth: usize,
}

impl Panels {
    /// `outputs` columns of `depth` rows; `fill(columns, wide, panel)` writes those columns into rows of `wide` values.
    fn new(arch: Arch, depth: usize, outputs: usize, fill: impl Fn(Range<usize>, usize, &mut [f32]) + Sync) -> Self {
        let mut values = vec![0.0; depth * padded_for(arch, outputs)];
        let count = values.len();
        each(values.chunks_mut(depth * PANEL).enumerate().collect(), count, |(panel, values)| {
            let (first, wide) = (panel * PANEL, values.len() / depth.max(1));
            fill(first..(first + wide).min(outputs), wide, values);
        });
        Self { values, depth }
    }

    /// The panels, each with its first column and its width in memory.
    fn each(&self) -> impl Iterator<Item = (usize, &[f32], usize)> {
        let panels = self.values.chunks(self.depth * PANEL).enumerate();
        panels.map(|(panel, values)| (panel * PANEL, values, values.len() / self.depth))
    }
}

/// Convolution: x `[N, H, W, C]`, w `[O, C, kh, kw]` → `[N, H', W', O]`, and its sums if requested.
pub fn forward(arch: Arch, x: &[f32], w: &[f32], s: &ConvShape, sums: bool) -> (Vec<f32>, Option<Vec<f64>>) {
    let plan = Plan::forward(s);
    let taps = s.kernel.0 * s.kernel.1;
    let inputs = s.in_channels;
    let panels = Panels::new(arch, plan.depth(), s.out_channels, |columns, wide, panel| {
        for c in 0..inputs {
            for (column, output) in columns.clone().enumerate() {
                let values = &w[(output * inputs + c) * taps..][..taps];
                values.iter().enumerate().for_each(|(tap, &value)| panel[(tap * inputs + c) * wide + column] = value);
            }
        }
    });
    let mut out = unwritten(s.batch * s.out_channels * s.out_size.0 * s.out_size.1);
    let partials = convolve(arch, x, &plan, &panels, Target::new(Shared::new(&mut out)), sums);
    (out, partials.map(|partials| partials.sum(s.out_channels)))
}

/// Gradient of the input: dy `[N, H', W', O]`, w → dx `[N, H, W, C]`.
pub fn backward_data(arch: Arch, dy: &[f32], w: &[f32], s: &ConvShape, dx: Target) {
    for (ry, rx) in (0..s.stride).flat_map(|ry| (0..s.stride).map(move |rx| (ry, rx))) {
        let Some(plan) = Plan::backward(s, (ry, rx)) else { continue };
        let (ny, nx) = plan.taps;
        if ny * nx == 0 {
            unmet(arch, &plan, dx);
            continue;
        }
        let (ky, kx) = ((ry + s.padding) % s.stride, (rx + s.padding) % s.stride);
        // From the last tap to the first.
        let tap = |ty: usize, tx: usize| (ky + (ny - 1 - ty) * s.stride) * s.kernel.1 + kx + (nx - 1 - tx) * s.stride;
        let taps: Vec<usize> = (0..ny * nx).map(|t| tap(t / nx, t % nx)).collect();
        let (area, outputs) = (s.kernel.0 * s.kernel.1, s.out_channels);
        let panels = Panels::new(arch, plan.depth(), s.in_channels, |columns, wide, panel| {
            for o in 0..outputs {
                for (column, c) in columns.clone().enumerate() {
                    let values = &w[(o * s.in_channels + c) * area..][..area];
                    for (row, &tap) in taps.iter().enumerate() {
                        panel[(row * outputs + o) * wide + column] = values[tap];
                    }
                }
            }
        });
        convolve(arch, dy, &plan, &panels, dx, false);
    }
}

/// Handles the pixels that no tap covers, which receive no gradient.
fn unmet(arch: Arch, plan: &Plan, target: Target) {
    if !matches!(target.accumulate, Accumulate::MaskThenAdd(())) {
        (0..plan.images).into_par_iter().for_each(|image| arch.dispatch(Unmet { image, plan, target }));
    }
}

/// Pixels of one image that no tap covers.
struct Unmet<'a> {
    image: usize,
    plan: &'a Plan,
    target: Target<'a>,
}

impl WithSimd for Unmet<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { image, plan, target } = self;
        for (i, j) in (0..plan.count.0).flat_map(|i| (0..plan.count.1).map(move |j| (i, j))) {
            let pixel = image * plan.out_area + plan.out_first + i * plan.out_step.0 + j * plan.out_step.1;
            let place = pixel * plan.outputs;
            // SAFETY: it is a pixel of the output, which has `outputs` values; each image belongs to one task.
            unsafe {
                match target.adds() {
                    true => target.mask(simd, place, plan.outputs),
                    false => target.out.at(place).write_bytes(0, plan.outputs),
                }
            }
        }
    }
}

fn convolve(arch: Arch, x: &[f32], plan: &Plan, panels: &Panels, target: Target, sums: bool) -> Option<Partials> {
    let image_len = plan.in_size.0 * plan.in_size.1 * plan.channels;
    let task = |scratch: &mut Scratch, (images, lines): (Range<usize>, Range<usize>)| {
        let x = &x[images.start * image_len..images.end * image_len];
        let mut partial = sums.then(|| Sums::new(plan.outputs));
        arch.dispatch(Task { x, images, lines, plan, panels, target, scratch, sums: partial.as_mut() });
        partial.map(Sums::total)
    };
    let partials: Vec<_> = plan.tasks().into_par_iter().map_init(Scratch::default, task).collect();
    Partials::of(partials)
}

/// Some lines of the outputs of one image, or all lines of several images.
struct Task<'a> {
    x: &'a [f32],
    images: Range<usize>,
    lines: Range<usize>,
    plan: &'a Plan,
    panels: &'a Panels,
    target: Target<'a>,
    scratch: &'a mut Scratch,
    sums: Option<&'a mut Sums>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, images, lines, plan, panels, target, scratch, sums } = self;
        let (ny, nx) = plan.taps;
        let c = plan.channels;
        let size = ((lines.len() - 1) * plan.step + ny, (plan.count.1 - 1) * plan.step + nx);
        let first = ((lines.start * plan.step) as isize + plan.first.0, plan.first.1);
        let (x, row, image_len) = surrounded(x, plan, first, size, scratch);
        let mut pixels = Vec::with_capacity(images.len() * lines.len() * plan.count.1);
        for (k, image) in images.clone().enumerate() {
            for (i, line) in lines.clone().enumerate() {
                let from = k * image_len + i * plan.step * row;
                let to = image * plan.out_area + plan.out_first + line * plan.out_step.0;
                pixels.extend(
                    (0..plan.count.1).map(|j| Pixel {
                        from: from + j * plan.step * c,
                        to: (to + j * plan.out_step.1) * plan.outputs,
                    }),
                );
            }
        }
        for (first, panel, wide) in panels.each() {
            let columns = wide.min(plan.outputs - first);
            for (k, Piece { taps, values }) in pieces(ny, nx * c).enumerate() {
                let walk = Walk { count: [1, taps.len(), values.len()], a: [0, row, 1], b: [0, nx * c * wide, wide] };
                let within = taps.start * row + values.start;
                let b = panel[(taps.start * nx * c + values.start) * wide..].as_ptr();
                let place = |pixel: usize| {
                    let Pixel { from, to } = pixels[pixel];
                    // SAFETY: it is a pixel of the output, which has `outputs` values.
                    (x[from + within..].as_ptr(), unsafe { target.out.at(to + first) })
                };
                // SAFETY: `surrounded` gives every window of these lines; the panel has a row of `wide` columns for
                // each value of a window; pixels are written by one task each.
                unsafe { multiply(simd, Panel { walk, b, columns, add: k > 0 || target.adds() }, pixels.len(), place) };
            }
        }
        // SAFETY: as above.
        pixels.iter().for_each(|pixel| unsafe { target.mask(simd, pixel.to, plan.outputs) });
        if let Some(sums) = sums {
            // Lines of a forward pass are adjacent.
            // SAFETY: this task has written the pixels.
            unsafe { sums.add_rows(simd, target.out.at(pixels[0].to), pixels.len()) };
        }
    }
}

/// Offsets of the first value of an output's window, and of the output.
#[derive(Clone, Copy)]
struct Pixel {
    from: usize,
    to: usize,
}

/// A part of a window: some of its lines, and some values of each.
struct Piece {
    taps: Range<usize>,
    values: Range<usize>,
}

/// A window of `taps` lines of `line` values, in pieces whose panel rows fit into the L1 cache.
fn pieces(taps: usize, line: usize) -> impl Iterator<Item = Piece> {
    let (together, parts) = ((PIECE / line.max(1)).clamp(1, taps), line.div_ceil(PIECE).max(1));
    let values = move |part: usize| part * line / parts..(part + 1) * line / parts;
    (0..taps).step_by(together).flat_map(move |first| {
        (0..parts).map(move |part| Piece { taps: first..(first + together).min(taps), values: values(part) })
    })
}

/// The part of each image of `size` from line and column `first` on, with zeros outside of the image; the images
/// themselves if no padding is needed. Also returns the strides between lines and between images.
fn surrounded<'a>(
    x: &'a [f32],
    plan: &Plan,
    first: (isize, isize),
    (height, width): (usize, usize),
    scratch: &'a mut Scratch,
) -> (&'a [f32], usize, usize) {
    let ((in_height, in_width), c) = (plan.in_size, plan.channels);
    let image_len = in_height * in_width * c;
    let inside = |first: isize, length: usize, size: usize| first >= 0 && first as usize + length <= size;
    if inside(first.0, height, in_height) && inside(first.1, width, in_width) {
        return (&x[(first.0 as usize * in_width + first.1 as usize) * c..], in_width * c, image_len);
    }
    let copied = height * width * c;
    let copy = scratch.take(x.len() / image_len * copied);
    for (x, copy) in x.chunks_exact(image_len).zip(copy.chunks_exact_mut(copied)) {
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
