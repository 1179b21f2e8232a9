//! Weight gradient: products of transformed input tiles and gradient tiles, summed over all tiles.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::microkernel::{PANEL, Panel, Walk, multiply, padded, padded_for, panels, whole};
use super::super::tasks::each;
use super::super::vectors::{LINE, Scratch, Shared, load, store, unwritten};
use super::source::Source;
use super::tiles::{Images, Tiles, Transformed};
use super::{CHANNELS, MATRICES, SIDE, TAPS, TASK_TILES, Transform, WeightFamily};

/// Number of rows of all matrices of a block of tiles that is summed while it is in the cache.
const BLOCK: usize = 1728;
/// Largest number of values of a task's sums for which the task sums its own tiles.
const KEPT_SUMS: usize = MATRICES * 128 * 64;
/// Largest number of parts in which tiles are summed.
const PARTS: usize = 16;
/// Number of values of transformed tiles that are in memory at once.
const HELD: usize = 1 << 23;
/// Number of tiles whose products are summed in registers, so that their panel stays in the L1 cache.
const DEPTH: usize = 64;

/// Gradient of the weight: x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, 3, 3]`.
pub fn gradient<F: WeightFamily>(
    arch: Arch,
    x: &Source,
    dy: &Source,
    (inputs, outputs): (usize, usize),
    tiles: &Tiles,
) -> Vec<f32> {
    let work = Work::<F> { arch, x, dy, inputs, outputs, tiles, family: PhantomData };
    match MATRICES * inputs * PANEL.min(outputs) <= KEPT_SUMS && outputs <= 2 * PANEL {
        true => work.by_parts(),
        false => work.by_channels(),
    }
}

#[derive(Clone, Copy)]
struct Work<'a, F> {
    arch: Arch,
    x: &'a Source<'a>,
    dy: &'a Source<'a>,
    inputs: usize,
    outputs: usize,
    tiles: &'a Tiles,
    family: PhantomData<F>,
}

impl<F: WeightFamily> Work<'_, F> {
    /// Number of tiles of a block.
    const BLOCK: usize = (BLOCK / F::POINTS).next_multiple_of(8);

    /// Strategy for few channels: each task sums a part of the tiles for a panel of outputs.
    fn by_parts(self) -> Vec<f32> {
        let count = self.tiles.count();
        let parts = count.div_ceil(Self::BLOCK).clamp(1, PARTS);
        let panels: Vec<_> = panels(self.outputs).collect();
        let jobs: Vec<_> = (0..parts).flat_map(|part| panels.iter().map(move |panel| (part, panel))).collect();
        let task = |scratch: &mut [Scratch; 3], (part, panel): (usize, &Range<usize>)| {
            let range = part * count / parts..(part + 1) * count / parts;
            self.arch.dispatch(WeightSums { work: self, range, panel: panel.clone(), scratch })
        };
        let partials: Vec<Vec<f32>> = jobs.into_par_iter().map_init(Default::default, task).collect();
        let add = |panel: usize, values: &mut Vec<f32>| {
            for part in partials.iter().skip(panel).step_by(panels.len()).skip(1) {
                values.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        };
        let mut sums: Vec<Vec<f32>> = partials[..panels.len()].to_vec();
        let values = partials.iter().map(Vec::len).sum();
        each(sums.iter_mut().enumerate().collect(), values, |(panel, values)| add(panel, values));
        self.gathered(&sums)
    }

    /// Strategy for many channels: tiles are transformed first, and each task sums all of them for some inputs and a
    /// panel of outputs.
    fn by_channels(self) -> Vec<f32> {
        let panels: Vec<_> = panels(self.outputs).collect();
        let row = |panel: &Range<usize>| TAPS * padded_for(self.arch, panel.len());
        let most = (HELD / (F::POINTS * (self.inputs + self.outputs))).max(Self::BLOCK);
        let most = most.min(self.tiles.count());
        let mut inputs = unwritten(Transformed::size_of_groups((F::POINTS, most), self.inputs, CHANNELS));
        let mut gradients = unwritten(Transformed::size_of_groups((F::POINTS, most), self.outputs, PANEL));
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
                self.arch.dispatch(Channels::<F> {
                    family: PhantomData,
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

    /// Inputs and gradients as images.
    fn images(&self) -> (Images<'_>, Images<'_>) {
        (self.tiles.inputs(self.x, self.inputs), self.tiles.gradients(self.dy, self.outputs))
    }

    /// Reorders `[panel][input][tap][columns]` to `[output][input][tap]`.
    fn gathered(&self, sums: &[Vec<f32>]) -> Vec<f32> {
        let row = self.inputs * TAPS;
        let mut dw = unwritten(self.outputs * row);
        let values = dw.len();
        each(dw.chunks_mut(LINE * row).enumerate().collect(), values, |(k, dw)| {
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
/// The matrices have these shapes; gradients and sums are whole vectors.
#[inline(always)]
unsafe fn add_products<S: Simd, F: WeightFamily>(
    simd: S,
    inputs: Transformed,
    gradients: Transformed,
    sums: Transformed,
    add: bool,
) {
    let mut begun = [add; MATRICES];
    for point in 0..F::POINTS {
        let matrix = F::matrix(point);
        for first in (0..inputs.tiles).step_by(DEPTH) {
            let depth = DEPTH.min(inputs.tiles - first);
            let walk = Walk { count: [1, 1, depth], a: [0, 0, inputs.width], b: [0, 0, gradients.width] };
            // SAFETY: the caller's promise.
            unsafe {
                let (a, b, out) = (inputs.row(point, first), gradients.row(point, first), sums.row(matrix, 0));
                let place =
                    |channel: usize| (a.wrapping_add(channel).cast_const(), out.wrapping_add(channel * sums.width));
                let panel = Panel { walk, b, columns: sums.width, add: begun[matrix] };
                multiply(simd, panel, inputs.width, place);
                begun[matrix] = true;
            }
        }
    }
}

/// Adds or writes Aᵀ·m·A of the sums to `out[input][tap][column]`.
///
/// # Safety
/// `sums` consists of whole vectors; `out` has `inputs · 9` rows of the same width.
#[inline(always)]
unsafe fn put_taps<S: Simd, F: WeightFamily>(simd: S, sums: Transformed, out: &mut [f32], add: bool) {
    let wide = sums.width;
    for (input, out) in out.chunks_exact_mut(TAPS * wide).enumerate() {
        for c in (0..wide).step_by(S::F32_LANES) {
            F::Taps::both_sides(
                simd,
                #[inline(always)]
                // SAFETY: the caller's promise.
                |i, j| unsafe { load::<S>(sums.row(SIDE * i + j, input).add(c)) },
                #[inline(always)]
                |i, j, tap| {
                    let to = out[(3 * i + j) * wide + c..].as_mut_ptr();
                    // SAFETY: the caller's promise.
                    unsafe { store::<S>(to, if add { simd.add_f32s(load::<S>(to), tap) } else { tap }) }
                },
            );
        }
    }
}

/// Sums over a part of the tiles for a panel of outputs, `[input][tap][columns]`.
struct WeightSums<'a, F> {
    work: Work<'a, F>,
    range: Range<usize>,
    panel: Range<usize>,
    scratch: &'a mut [Scratch; 3],
}

impl<F: WeightFamily> WithSimd for WeightSums<'_, F> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { work, range, panel, scratch: [inputs, gradients, sums] } = self;
        let wide = padded::<S>(panel.len());
        let block = Work::<F>::BLOCK;
        let inputs = inputs.take(Transformed::size(F::POINTS, block, work.inputs)).as_mut_ptr();
        let gradients = gradients.take(Transformed::size(F::POINTS, block, wide)).as_mut_ptr();
        let sums = sums.take(Transformed::size(MATRICES, work.inputs, wide)).as_mut_ptr();
        let sums = Transformed::new(sums, work.inputs, wide);
        let mut out = unwritten(work.inputs * TAPS * wide);
        for start in range.clone().step_by(block) {
            let tiles = start..(start + block).min(range.end);
            let count = tiles.len();
            let inputs = Transformed::new(inputs, count, work.inputs);
            let gradients = Transformed::new(gradients, count, wide);
            // SAFETY: the matrices have the declared sizes.
            unsafe {
                let (x, dy) = work.images();
                work.tiles.transform::<S, F::Inputs>(simd, x, 0..work.inputs, tiles.clone(), inputs);
                work.tiles.transform::<S, F::Gradients>(simd, dy, panel.clone(), tiles, gradients);
                add_products::<S, F>(simd, inputs, gradients, sums, start > range.start);
            }
        }
        match range.is_empty() {
            true => out.fill(0.0),
            // SAFETY: at least one block was summed.
            false => unsafe { put_taps::<S, F>(simd, sums, &mut out, false) },
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
struct Hold<'a, F> {
    work: Work<'a, F>,
    chunk: Range<usize>,
    range: Range<usize>,
    held: Held,
}

impl<F: WeightFamily> WithSimd for Hold<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, chunk, range, held } = self;
        let (before, tiles) = (range.start - chunk.start, (F::POINTS, chunk.len()));
        let (x, dy) = work.images();
        // SAFETY: the matrices have a row for every tile of the chunk; tiles are written by one task each.
        unsafe {
            for first in (0..work.inputs).step_by(CHANNELS) {
                let channels = first..(first + CHANNELS).min(work.inputs);
                let into = Transformed::group(held.inputs, tiles, channels.clone(), CHANNELS).starting_at(before);
                work.tiles.transform::<S, F::Inputs>(simd, x, channels, range.clone(), into);
            }
            for channels in panels(work.outputs) {
                let into = Transformed::group(held.gradients, tiles, whole::<S>(&channels), PANEL).starting_at(before);
                work.tiles.transform::<S, F::Gradients>(simd, dy, channels, range.clone(), into);
            }
        }
    }
}

/// Adds the sums over all tiles in memory for some inputs and a panel of outputs.
struct Channels<'a, F> {
    family: PhantomData<F>,
    tiles: usize,
    held: Held,
    panel: Range<usize>,
    channels: Range<usize>,
    scratch: &'a mut Scratch,
    sums: &'a mut [f32],
}

impl<F: WeightFamily> WithSimd for Channels<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, held, panel, channels, scratch, sums, .. } = self;
        let (count, wide) = (channels.len(), padded::<S>(panel.len()));
        let made = scratch.take(Transformed::size(MATRICES, count, wide)).as_mut_ptr();
        let tiles = (F::POINTS, tiles);
        let made = Transformed::new(made, count, wide);
        // SAFETY: the matrices have a row for every tile.
        unsafe {
            let inputs = Transformed::group(held.inputs, tiles, channels, CHANNELS);
            let gradients = Transformed::group(held.gradients, tiles, whole::<S>(&panel), PANEL);
            add_products::<S, F>(simd, inputs, gradients, made, false);
            put_taps::<S, F>(simd, made, sums, true);
        }
    }
}
