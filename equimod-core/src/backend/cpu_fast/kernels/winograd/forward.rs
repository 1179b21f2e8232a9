//! Computation of output tiles from input tiles.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::channel_sums::{Partials, Sums};
use super::super::microkernel::{PANEL, padded, panels, product, whole};
use super::super::target::Target;
use super::super::tasks::each;
use super::super::vectors::{Scratch, Shared, unwritten};
use super::filters::Weights;
use super::source::Source;
use super::tiles::{Tiles, Transformed};
use super::{CHANNELS, Family, MATRICES, TASK_TILES};

/// Approximate number of rows of all matrices of a block of tiles. With the weights of 64 channels, they fit into an L2
/// cache of 1 MiB.
const BLOCK: usize = 864;
/// Transformed weights with more values than the first number are computed by panels when they are needed, if there are
/// at most as many tiles as the second number, so that each panel is needed only once.
const KEPT_WEIGHTS: usize = 5 << 20;
const HELD_TILES: usize = 96;
/// Number of input channels whose weights a task keeps.
const KEPT_CHANNELS: usize = 16;

/// Convolution: x `[N, H, W, inputs]` → all values of the target `[N, H', W', outputs]`, and the sums if requested.
pub fn convolve<F: Family>(
    arch: Arch,
    x: &Source,
    weights: &Weights,
    tiles: &Tiles,
    target: Target,
    sums: bool,
) -> Option<Partials> {
    let work = Work::<F> { arch, x, weights, tiles, target, sums, family: PhantomData };
    let large = MATRICES * weights.inputs * weights.outputs > KEPT_WEIGHTS;
    Partials::of(match large && tiles.count() <= HELD_TILES {
        true => work.by_panels(),
        false => work.by_blocks(),
    })
}

#[derive(Clone, Copy)]
struct Work<'a, F> {
    arch: Arch,
    x: &'a Source<'a>,
    weights: &'a Weights<'a>,
    tiles: &'a Tiles,
    target: Target<'a>,
    sums: bool,
    family: PhantomData<F>,
}

impl<F: Family> Work<'_, F> {
    /// Number of tiles of a block, in whole groups of rows.
    const BLOCK: usize = (BLOCK / F::POINTS).next_multiple_of(6);

    /// Strategy for few channels: weights are transformed once, and each task processes a block of tiles from input to
    /// output.
    fn by_blocks(self) -> Vec<Option<Vec<f64>>> {
        let Weights { inputs, outputs, .. } = *self.weights;
        let mut transformed = unwritten(Transformed::size_of_groups((MATRICES, inputs), outputs, PANEL));
        let shared = Shared::new(&mut transformed);
        let jobs: Vec<_> = panels(outputs)
            .flat_map(|panel| (0..inputs).step_by(KEPT_CHANNELS).map(move |input| (panel.clone(), input)))
            .collect();
        each(jobs, MATRICES * inputs * outputs, |(panel, input)| {
            self.arch.dispatch(KeepWeights {
                work: self,
                panel,
                inputs: input..(input + KEPT_CHANNELS).min(inputs),
                out: shared,
            });
        });
        let block = |scratch: &mut [Scratch; 2], range: Range<usize>| {
            let mut sums = self.sums.then(|| Sums::new(outputs));
            self.arch.dispatch(Block { work: self, transformed: shared, range, scratch, sums: sums.as_mut() });
            sums.map(Sums::total)
        };
        let blocks: Vec<_> = blocks(self.tiles.count(), Self::BLOCK).collect();
        blocks.into_par_iter().map_init(Default::default, block).collect()
    }

    /// Strategy for many channels and few tiles: tiles are transformed first, and each task computes a panel of
    /// channels of all tiles. The weights of a panel are transformed when they are needed and stay in the cache.
    fn by_panels(self) -> Vec<Option<Vec<f64>>> {
        let Weights { inputs, outputs, .. } = *self.weights;
        let mut held = unwritten(Transformed::size_of_groups((F::POINTS, self.tiles.count()), inputs, CHANNELS));
        let held = Shared::new(&mut held);
        let jobs: Vec<_> = blocks(self.tiles.count(), TASK_TILES)
            .flat_map(|range| (0..inputs).step_by(CHANNELS).map(move |channel| (range.clone(), channel)))
            .collect();
        jobs.into_par_iter().for_each(|(range, channel)| {
            let channels = channel..(channel + CHANNELS).min(inputs);
            self.arch.dispatch(HoldInputs { work: self, range, channels, out: held });
        });
        let task = |scratch: &mut [Scratch; 2], panel: Range<usize>| {
            let mut sums = self.sums.then(|| Sums::new(outputs));
            self.arch.dispatch(HeldTiles { work: self, held, panel, scratch, sums: sums.as_mut() });
            sums.map(Sums::total)
        };
        let panels: Vec<_> = panels(outputs).collect();
        panels.into_par_iter().map_init(Default::default, task).collect()
    }
}

fn blocks(count: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(block).map(move |first| first..(first + block).min(count))
}

/// Transforms some weights to their position in `[panel][point][input][columns]`.
struct KeepWeights<'a, F> {
    work: Work<'a, F>,
    panel: Range<usize>,
    inputs: Range<usize>,
    out: Shared,
}

impl<F: Family> WithSimd for KeepWeights<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work: Work { weights, .. }, panel, inputs, out } = self;
        // SAFETY: panels before this one are full; rows of inputs are written by one task each.
        unsafe {
            let out = Transformed::group(out, (MATRICES, weights.inputs), whole::<S>(&panel), PANEL);
            weights.transform::<S, F>(simd, inputs.clone(), panel, out.starting_at(inputs.start));
        }
    }
}

/// Processes a block of tiles from input to output.
struct Block<'a, F> {
    work: Work<'a, F>,
    transformed: Shared,
    range: Range<usize>,
    scratch: &'a mut [Scratch; 2],
    sums: Option<&'a mut Sums>,
}

impl<F: Family> WithSimd for Block<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, transformed, range, scratch: [held, made], mut sums } = self;
        let Weights { inputs, outputs, .. } = *work.weights;
        let count = range.len();
        let held = held.take(Transformed::size(F::POINTS, count, inputs)).as_mut_ptr();
        let made = made.take(Transformed::size(F::POINTS, count, PANEL)).as_mut_ptr();
        let held = Transformed::new(held, count, inputs);
        // SAFETY: the matrices have the declared sizes; blocks write disjoint outputs.
        unsafe {
            let x = work.tiles.inputs(work.x, inputs);
            work.tiles.transform::<S, F::Inputs>(simd, x, 0..inputs, range.clone(), held);
            for panel in panels(outputs) {
                let wide = padded::<S>(panel.len());
                let products = Transformed::new(made, count, wide);
                let weights = Transformed::group(transformed, (MATRICES, inputs), whole::<S>(&panel), PANEL);
                for point in 0..F::POINTS {
                    let (a, b) = (held.row(point, 0), weights.row(F::matrix(point), 0));
                    product(simd, (count, inputs, wide), a, b, products.row(point, 0), false);
                }
                let sums = sums.as_deref_mut();
                let to = (panel, outputs);
                work.tiles.outputs::<S, F::Outputs>(simd, products, range.clone(), to, work.target, sums);
            }
        }
    }
}

/// Transforms some channels of some tiles into `[channels / CHANNELS][point][tile][CHANNELS]`.
struct HoldInputs<'a, F> {
    work: Work<'a, F>,
    range: Range<usize>,
    channels: Range<usize>,
    out: Shared,
}

impl<F: Family> WithSimd for HoldInputs<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work: Work { tiles, x, weights, .. }, range, channels, out } = self;
        // SAFETY: the memory has that size; each tile is written by one task.
        unsafe {
            let out = Transformed::group(out, (F::POINTS, tiles.count()), channels.clone(), CHANNELS);
            let out = out.starting_at(range.start);
            tiles.transform::<S, F::Inputs>(simd, tiles.inputs(x, weights.inputs), channels, range, out);
        }
    }
}

/// Computes a panel of output channels of all tiles.
struct HeldTiles<'a, F> {
    work: Work<'a, F>,
    held: Shared,
    panel: Range<usize>,
    scratch: &'a mut [Scratch; 2],
    sums: Option<&'a mut Sums>,
}

impl<F: Family> WithSimd for HeldTiles<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, held, panel, scratch: [weights, made], sums } = self;
        let Weights { inputs, outputs, .. } = *work.weights;
        let (count, wide) = (work.tiles.count(), padded::<S>(panel.len()));
        let weights = weights.take(Transformed::size(MATRICES, CHANNELS, wide)).as_mut_ptr();
        let made = made.take(Transformed::size(F::POINTS, count, wide)).as_mut_ptr();
        let products = Transformed::new(made, count, wide);
        // SAFETY: the matrices have the declared sizes; tasks write disjoint outputs.
        unsafe {
            for channel in (0..inputs).step_by(CHANNELS) {
                let channels = channel..(channel + CHANNELS).min(inputs);
                let depth = channels.len();
                let held = Transformed::group(held, (F::POINTS, count), channels.clone(), CHANNELS);
                let transformed = Transformed::new(weights, depth, wide);
                work.weights.transform::<S, F>(simd, channels, panel.clone(), transformed);
                for point in 0..F::POINTS {
                    let (a, b) = (held.row(point, 0), transformed.row(F::matrix(point), 0));
                    product(simd, (count, depth, wide), a, b, products.row(point, 0), channel > 0);
                }
            }
            let to = (panel, outputs);
            work.tiles.outputs::<S, F::Outputs>(simd, products, 0..count, to, work.target, sums);
        }
    }
}
