//! From tiles of inputs to tiles of outputs.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::lanes::{Scratch, Shared, unwritten};
use super::super::product::{PANEL, padded, panels, product, whole};
use super::super::sums::Partials;
use super::filters::Weights;
use super::tiles::{Tiles, Transformed};
use super::{CHANNELS, POINTS, TASK_TILES};

/// Tiles of a block: with the weights of 64 channels, its matrices fit into a second cache of 1 MiB.
const BLOCK: usize = 24;
/// Held tiles that a task makes outputs of.
const HELD_TILES: usize = 96;
/// Transformed weights of more values than this are not kept: they are made anew where they are needed.
const KEPT_WEIGHTS: usize = 1 << 20;
/// Values of transformed inputs that are held at once.
const HELD_INPUTS: usize = 1 << 22;
/// Input channels whose weights a task keeps.
const KEPT_CHANNELS: usize = 16;

/// x `[N, H, W, inputs]` → out `[N, H', W', outputs]`, every value of it, and the sums if they are wanted.
pub fn convolve(
    arch: Arch,
    x: &[f32],
    weights: &Weights,
    tiles: &Tiles,
    out: &mut [f32],
    sums: bool,
) -> Option<Partials> {
    let shared = Shared::new(out);
    let work = Work { arch, x, weights, tiles, out: shared, sums };
    let partials = match POINTS * weights.inputs * weights.outputs <= KEPT_WEIGHTS {
        true => work.by_blocks(),
        false => work.by_panels(),
    };
    sums.then_some(partials)
}

#[derive(Clone, Copy)]
struct Work<'a> {
    arch: Arch,
    x: &'a [f32],
    weights: &'a Weights<'a>,
    tiles: &'a Tiles,
    out: Shared,
    sums: bool,
}

impl Work<'_> {
    /// For few channels: the transformed weights are made once, and each task takes a block of tiles from the input to
    /// the output.
    fn by_blocks(self) -> Partials {
        let Weights { inputs, outputs, .. } = *self.weights;
        let mut transformed = unwritten(Transformed::size_of_groups(inputs, outputs, PANEL));
        let shared = Shared::new(&mut transformed);
        let jobs: Vec<_> = panels(outputs)
            .flat_map(|panel| (0..inputs).step_by(KEPT_CHANNELS).map(move |input| (panel.clone(), input)))
            .collect();
        jobs.into_par_iter().for_each(|(panel, input)| {
            self.arch.dispatch(KeepWeights {
                work: self,
                panel,
                inputs: input..(input + KEPT_CHANNELS).min(inputs),
                out: shared,
            });
        });
        let block = |scratch: &mut [Scratch; 2], range: Range<usize>| {
            let mut sums = vec![0.0; if self.sums { 2 * outputs } else { 0 }];
            self.arch.dispatch(Block { work: self, transformed: shared, range, scratch, sums: &mut sums });
            sums
        };
        let blocks: Vec<_> = blocks(self.tiles.count(), BLOCK).collect();
        Partials(blocks.into_par_iter().map_init(Default::default, block).collect())
    }

    /// For many channels: tiles are transformed first, and each task makes a panel of channels of some tiles; the weights
    /// of a panel are transformed on the way and never leave the cache.
    fn by_panels(self) -> Partials {
        let Weights { inputs, outputs, .. } = *self.weights;
        let most = (HELD_INPUTS / (POINTS * inputs)).max(BLOCK) / BLOCK * BLOCK;
        let most = most.min(self.tiles.count());
        let mut held = unwritten(Transformed::size_of_groups(most, inputs, CHANNELS));
        let mut partials = Vec::new();
        for chunk in blocks(self.tiles.count(), most) {
            let shared = Shared::new(&mut held);
            let jobs: Vec<_> = (chunk.clone())
                .step_by(TASK_TILES)
                .flat_map(|tile| (0..inputs).step_by(CHANNELS).map(move |channel| (tile, channel)))
                .collect();
            jobs.into_par_iter().for_each(|(tile, channel)| {
                let range = tile..(tile + TASK_TILES).min(chunk.end);
                self.arch.dispatch(HoldInputs { work: self, chunk: chunk.clone(), range, channel, out: shared });
            });
            let jobs: Vec<_> = blocks(chunk.len(), HELD_TILES)
                .flat_map(|range| panels(outputs).map(move |panel| (range.clone(), panel)))
                .collect();
            let task = |scratch: &mut [Scratch; 2], (range, panel): (Range<usize>, Range<usize>)| {
                let mut sums = vec![0.0; if self.sums { 2 * outputs } else { 0 }];
                let (work, chunk, sum) = (self, chunk.clone(), &mut sums);
                self.arch.dispatch(HeldTiles { work, chunk, held: shared, range, panel, scratch, sums: sum });
                sums
            };
            let sums: Vec<Vec<f64>> = jobs.into_par_iter().map_init(Default::default, task).collect();
            partials.extend(sums);
        }
        Partials(partials)
    }
}

fn blocks(count: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(block).map(move |first| first..(first + block).min(count))
}

/// Transforms some weights into their place in `[panel][point][input][columns]`.
struct KeepWeights<'a> {
    work: Work<'a>,
    panel: Range<usize>,
    inputs: Range<usize>,
    out: Shared,
}

impl WithSimd for KeepWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work: Work { weights, .. }, panel, inputs, out } = self;
        // SAFETY: panels before this one are full; rows of inputs are written by one task each.
        unsafe {
            let out = Transformed::group(out, weights.inputs, whole::<S>(&panel), PANEL);
            weights.transform(simd, inputs.clone(), panel, out.starting_at(inputs.start));
        }
    }
}

/// A block of tiles from the input to the output.
struct Block<'a> {
    work: Work<'a>,
    transformed: Shared,
    range: Range<usize>,
    scratch: &'a mut [Scratch; 2],
    sums: &'a mut [f64],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, transformed, range, scratch: [held, made], sums } = self;
        let Weights { inputs, outputs, .. } = *work.weights;
        let count = range.len();
        let held = held.take(Transformed::size(count, inputs)).as_mut_ptr();
        let made = made.take(Transformed::size(count, PANEL)).as_mut_ptr();
        let held = Transformed::new(held, count, inputs);
        // SAFETY: the matrices have the sizes that are said; blocks write outputs of their own.
        unsafe {
            work.tiles.transform_inputs(simd, work.x, inputs, 0..inputs, range.clone(), held);
            for panel in panels(outputs) {
                let wide = padded::<S>(panel.len());
                let products = Transformed::new(made, count, wide);
                let weights = Transformed::group(transformed, inputs, whole::<S>(&panel), PANEL);
                for xi in 0..POINTS {
                    let (a, b) = (held.row(xi, 0), weights.row(xi, 0));
                    product(simd, (count, inputs, wide), a, b, products.row(xi, 0), false);
                }
                work.tiles.outputs_of(simd, products, range.clone(), (panel, outputs), work.out.at(0), sums);
            }
        }
    }
}

/// Transforms some channels of some tiles of a chunk into `[channels / CHANNELS][point][tile][CHANNELS]`.
struct HoldInputs<'a> {
    work: Work<'a>,
    chunk: Range<usize>,
    range: Range<usize>,
    channel: usize,
    out: Shared,
}

impl WithSimd for HoldInputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, chunk, range, channel, out } = self;
        let inputs = work.weights.inputs;
        let channels = channel..(channel + CHANNELS).min(inputs);
        // SAFETY: so much is held; tiles are written by one task each.
        unsafe {
            let out = Transformed::group(out, chunk.len(), channels.clone(), CHANNELS);
            let out = out.starting_at(range.start - chunk.start);
            work.tiles.transform_inputs(simd, work.x, inputs, channels, range, out);
        }
    }
}

/// A panel of the output's channels of some tiles of a chunk, `range` counted from its first.
struct HeldTiles<'a> {
    work: Work<'a>,
    chunk: Range<usize>,
    held: Shared,
    range: Range<usize>,
    panel: Range<usize>,
    scratch: &'a mut [Scratch; 2],
    sums: &'a mut [f64],
}

impl WithSimd for HeldTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, chunk, held, range, panel, scratch: [weights, made], sums } = self;
        let Weights { inputs, outputs, .. } = *work.weights;
        let (count, wide) = (range.len(), padded::<S>(panel.len()));
        let weights = weights.take(Transformed::size(CHANNELS, wide)).as_mut_ptr();
        let made = made.take(Transformed::size(count, wide)).as_mut_ptr();
        let products = Transformed::new(made, count, wide);
        let tiles = chunk.start + range.start..chunk.start + range.end;
        // SAFETY: the matrices have the sizes that are said; tasks write outputs of their own.
        unsafe {
            for channel in (0..inputs).step_by(CHANNELS) {
                let channels = channel..(channel + CHANNELS).min(inputs);
                let depth = channels.len();
                let held = Transformed::group(held, chunk.len(), channels.clone(), CHANNELS);
                let transformed = Transformed::new(weights, depth, wide);
                work.weights.transform(simd, channels, panel.clone(), transformed);
                for xi in 0..POINTS {
                    let (a, b) = (held.row(xi, range.start), transformed.row(xi, 0));
                    product(simd, (count, depth, wide), a, b, products.row(xi, 0), channel > 0);
                }
            }
            work.tiles.outputs_of(simd, products, tiles, (panel, outputs), work.out.at(0), sums);
        }
    }
}
