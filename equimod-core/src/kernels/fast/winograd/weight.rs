//! The weight gradient, F(3×3, 4×4): tiles of inputs times tiles of gradients, summed over all tiles.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::lanes::{LINE, Scratch, Shared, load, store, unwritten};
use super::super::product::{PANEL, Panel, Walk, multiply, padded, padded_for, panels, whole};
use super::tiles::{Tiles, Transformed, get};
use super::transforms::{both_sides, three_outputs};
use super::{CHANNELS, POINTS, TAPS, TASK_TILES};

/// Tiles of a block that is summed while it is in the cache.
const BLOCK: usize = 48;
/// Most values of the sums of one task that stays with its tiles.
const KEPT_SUMS: usize = 36 * 128 * 64;
/// Most parts that tiles are summed in.
const PARTS: usize = 16;
/// Values of transformed tiles that are held at once.
const HELD: usize = 1 << 23;
/// Tiles whose products are summed in registers: their panel stays in the first cache.
const DEPTH: usize = 64;

/// x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, 3, 3]`.
pub fn gradient(arch: Arch, x: &[f32], dy: &[f32], (inputs, outputs): (usize, usize), tiles: &Tiles) -> Vec<f32> {
    let work = Work { arch, x, dy, inputs, outputs, tiles };
    match POINTS * inputs * PANEL.min(outputs) <= KEPT_SUMS && outputs <= 2 * PANEL {
        true => work.by_parts(),
        false => work.by_channels(),
    }
}

#[derive(Clone, Copy)]
struct Work<'a> {
    arch: Arch,
    x: &'a [f32],
    dy: &'a [f32],
    inputs: usize,
    outputs: usize,
    tiles: &'a Tiles,
}

impl Work<'_> {
    /// For few channels: each task sums a part of the tiles, for a panel of outputs.
    fn by_parts(self) -> Vec<f32> {
        let count = self.tiles.count();
        let parts = count.div_ceil(BLOCK).clamp(1, PARTS);
        let panels: Vec<_> = panels(self.outputs).collect();
        let jobs: Vec<_> = (0..parts).flat_map(|part| panels.iter().map(move |panel| (part, panel))).collect();
        let task = |scratch: &mut [Scratch; 3], (part, panel): (usize, &Range<usize>)| {
            let range = part * count / parts..(part + 1) * count / parts;
            self.arch.dispatch(Part { work: self, range, panel: panel.clone(), scratch })
        };
        let partials: Vec<Vec<f32>> = jobs.into_par_iter().map_init(Default::default, task).collect();
        let add = |panel: usize, values: &mut Vec<f32>| {
            for part in partials.iter().skip(panel).step_by(panels.len()).skip(1) {
                values.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        };
        let mut sums: Vec<Vec<f32>> = partials[..panels.len()].to_vec();
        sums.par_iter_mut().enumerate().for_each(|(panel, values)| add(panel, values));
        self.gathered(&sums)
    }

    /// For many channels: tiles are transformed first, and each task sums all of them for some inputs and a panel of
    /// outputs.
    fn by_channels(self) -> Vec<f32> {
        let panels: Vec<_> = panels(self.outputs).collect();
        let row = |panel: &Range<usize>| TAPS * padded_for(self.arch, panel.len());
        let most = (HELD / (POINTS * (self.inputs + self.outputs))).max(BLOCK);
        let most = most.min(self.tiles.count());
        let mut inputs = unwritten(Transformed::size_of_groups(most, self.inputs, CHANNELS));
        let mut gradients = unwritten(Transformed::size_of_groups(most, self.outputs, PANEL));
        let mut sums: Vec<Vec<f32>> = panels.iter().map(|panel| vec![0.0; self.inputs * row(panel)]).collect();
        let count = self.tiles.count();
        for first in (0..count).step_by(most) {
            let chunk = first..(first + most).min(count);
            let held = Held { inputs: Shared::new(&mut inputs), gradients: Shared::new(&mut gradients) };
            chunk.clone().into_par_iter().step_by(TASK_TILES).for_each(|tile| {
                let range = tile..(tile + TASK_TILES).min(chunk.end);
                self.arch.dispatch(Hold { work: self, chunk: chunk.clone(), range, held });
            });
            let jobs: Vec<_> = sums
                .iter_mut()
                .zip(&panels)
                .flat_map(|(sums, panel)| {
                    let chunks = sums.chunks_mut(CHANNELS * row(panel)).enumerate();
                    chunks.map(move |(k, sums)| (panel, k * CHANNELS, sums))
                })
                .collect();
            jobs.into_par_iter().for_each_init(Scratch::default, |scratch, (panel, channel, sums)| {
                let channels = channel..(channel + CHANNELS).min(self.inputs);
                self.arch.dispatch(Channels {
                    tiles: chunk.len(),
                    held,
                    panel: panel.clone(),
                    channels,
                    scratch,
                    sums,
                });
            });
        }
        self.gathered(&sums)
    }

    /// From `[panel][input][tap][columns]` to `[output][input][tap]`.
    fn gathered(&self, sums: &[Vec<f32>]) -> Vec<f32> {
        let row = self.inputs * TAPS;
        let mut dw = unwritten(self.outputs * row);
        dw.par_chunks_mut(LINE * row).enumerate().for_each(|(k, dw)| {
            let (panel, column) = (&sums[k * LINE / PANEL], k * LINE % PANEL);
            let wide = panel.len() / row;
            for (i, columns) in panel.chunks_exact(wide).enumerate() {
                for (output, value) in dw.chunks_exact_mut(row).zip(&columns[column..]) {
                    output[i] = *value;
                }
            }
        });
        dw
    }
}

/// `sums[ξ][input][column] (+)= Σ_tiles inputs[ξ][tile][input] · gradients[ξ][tile][column]`.
///
/// # Safety
/// The matrices are as large as they say, gradients and sums in whole vectors.
#[inline(always)]
unsafe fn add_products<S: Simd>(simd: S, inputs: Transformed, gradients: Transformed, sums: Transformed, add: bool) {
    for xi in 0..POINTS {
        for first in (0..inputs.tiles).step_by(DEPTH) {
            let depth = DEPTH.min(inputs.tiles - first);
            let walk = Walk { count: [1, 1, depth], a: [0, 0, inputs.width], b: [0, 0, gradients.width] };
            // SAFETY: the caller's promise.
            unsafe {
                let (a, b, out) = (inputs.row(xi, first), gradients.row(xi, first), sums.row(xi, 0));
                let place =
                    |channel: usize| (a.wrapping_add(channel).cast_const(), out.wrapping_add(channel * sums.width));
                let panel = Panel { walk, b, columns: sums.width, add: add || first > 0 };
                multiply(simd, panel, inputs.width, place);
            }
        }
    }
}

/// Aᵀ·m·A of the sums: `out[input][tap][column] (+)=`.
///
/// # Safety
/// `sums` is in whole vectors, `out` has `inputs · 9` rows as wide.
#[inline(always)]
unsafe fn put_taps<S: Simd>(simd: S, sums: Transformed, out: &mut [f32], add: bool) {
    let wide = sums.width;
    for (input, out) in out.chunks_exact_mut(TAPS * wide).enumerate() {
        for c in (0..wide).step_by(S::F32_LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let taps = both_sides(
                    simd,
                    get(simd, sums, input, c),
                    #[inline(always)]
                    |simd, m| three_outputs(simd, m),
                );
                for i in 0..3 {
                    for j in 0..3 {
                        let to = out[(3 * i + j) * wide + c..].as_mut_ptr();
                        let value = match add {
                            true => simd.add_f32s(load::<S>(to), taps[i][j]),
                            false => taps[i][j],
                        };
                        store::<S>(to, value);
                    }
                }
            }
        }
    }
}

/// The sums over a part of the tiles for a panel of outputs, `[input][tap][columns]`.
struct Part<'a> {
    work: Work<'a>,
    range: Range<usize>,
    panel: Range<usize>,
    scratch: &'a mut [Scratch; 3],
}

impl WithSimd for Part<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { work, range, panel, scratch: [inputs, gradients, sums] } = self;
        let wide = padded::<S>(panel.len());
        let inputs = inputs.take(Transformed::size(BLOCK, work.inputs)).as_mut_ptr();
        let gradients = gradients.take(Transformed::size(BLOCK, wide)).as_mut_ptr();
        let sums = sums.take(Transformed::size(work.inputs, wide)).as_mut_ptr();
        let sums = Transformed::new(sums, work.inputs, wide);
        let mut out = unwritten(work.inputs * TAPS * wide);
        for start in range.clone().step_by(BLOCK) {
            let tiles = start..(start + BLOCK).min(range.end);
            let count = tiles.len();
            let inputs = Transformed::new(inputs, count, work.inputs);
            let gradients = Transformed::new(gradients, count, wide);
            // SAFETY: the matrices have the sizes that are said.
            unsafe {
                work.tiles.transform_inputs(simd, work.x, work.inputs, 0..work.inputs, tiles.clone(), inputs);
                work.tiles.transform_gradients(simd, work.dy, work.outputs, panel.clone(), tiles, gradients);
                let add = start > range.start;
                add_products(simd, inputs, gradients, sums, add);
            }
        }
        match range.is_empty() {
            true => out.fill(0.0),
            // SAFETY: at least one block was summed.
            false => unsafe { put_taps(simd, sums, &mut out, false) },
        }
        out
    }
}

/// Transformed tiles: for every [`CHANNELS`] inputs, and for every panel of outputs, `[point][tile][channel]`.
#[derive(Clone, Copy)]
struct Held {
    inputs: Shared,
    gradients: Shared,
}

/// Transforms some tiles of a chunk.
struct Hold<'a> {
    work: Work<'a>,
    chunk: Range<usize>,
    range: Range<usize>,
    held: Held,
}

impl WithSimd for Hold<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, chunk, range, held } = self;
        let before = range.start - chunk.start;
        // SAFETY: the matrices have a row for every tile of the chunk; tiles are written by one task each.
        unsafe {
            for first in (0..work.inputs).step_by(CHANNELS) {
                let channels = first..(first + CHANNELS).min(work.inputs);
                let into = Transformed::group(held.inputs, chunk.len(), channels.clone(), CHANNELS).starting_at(before);
                work.tiles.transform_inputs(simd, work.x, work.inputs, channels, range.clone(), into);
            }
            for channels in panels(work.outputs) {
                let into =
                    Transformed::group(held.gradients, chunk.len(), whole::<S>(&channels), PANEL).starting_at(before);
                work.tiles.transform_gradients(simd, work.dy, work.outputs, channels, range.clone(), into);
            }
        }
    }
}

/// Adds the sums over all held tiles for some inputs and a panel of outputs.
struct Channels<'a> {
    tiles: usize,
    held: Held,
    panel: Range<usize>,
    channels: Range<usize>,
    scratch: &'a mut Scratch,
    sums: &'a mut [f32],
}

impl WithSimd for Channels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, held, panel, channels, scratch, sums } = self;
        let (count, wide) = (channels.len(), padded::<S>(panel.len()));
        let made = scratch.take(Transformed::size(count, wide)).as_mut_ptr();
        let made = Transformed::new(made, count, wide);
        // SAFETY: the held matrices have a row for every tile.
        unsafe {
            let inputs = Transformed::group(held.inputs, tiles, channels, CHANNELS);
            let gradients = Transformed::group(held.gradients, tiles, whole::<S>(&panel), PANEL);
            add_products(simd, inputs, gradients, made, false);
            put_taps(simd, made, sums, true);
        }
    }
}
