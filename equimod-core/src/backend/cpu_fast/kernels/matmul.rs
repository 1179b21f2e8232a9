//! Products of row-major matrices.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::microkernel::{Panel, Walk, multiply, padded, panels};
use super::vectors::{Scratch, Shared, unwritten};

/// Largest number of rows of a task.
const ROWS: usize = 384;
/// Number of rows of `b` that are multiplied at once: a panel of them stays in the L2 cache, and `a` is read in runs
/// that are long enough for hardware prefetching.
const DEPTH: usize = 512;

/// Product of a `[rows, depth]` and b `[depth, columns]` → `[rows, columns]`.
pub fn matmul(arch: Arch, a: &[f32], b: &[f32], (rows, depth, columns): (usize, usize, usize)) -> Vec<f32> {
    let mut out = unwritten(rows * columns);
    let shared = Shared::new(&mut out);
    // Blocks of rows, whose sizes differ by at most one.
    let blocks = rows.div_ceil(ROWS);
    let block = |k: usize| k * rows / blocks..(k + 1) * rows / blocks;
    let tasks: Vec<_> =
        panels(columns).flat_map(|columns| (0..blocks).map(move |k| (block(k), columns.clone()))).collect();
    tasks.into_par_iter().for_each_init(Default::default, |scratch: &mut [Scratch; 2], (rows, panel)| {
        arch.dispatch(Block { a, b, depth, columns, rows, panel, out: shared, scratch });
    });
    out
}

/// Some rows and columns of a product.
struct Block<'a> {
    a: &'a [f32],
    b: &'a [f32],
    depth: usize,
    columns: usize,
    rows: Range<usize>,
    panel: Range<usize>,
    out: Shared,
    scratch: &'a mut [Scratch; 2],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, depth, columns, rows, panel, out, scratch: [copy, sums] } = self;
        let wide = padded::<S>(panel.len());
        let sums = sums.take(rows.len() * wide);
        sums.fill(0.0);
        for first in (0..depth).step_by(DEPTH) {
            let count = DEPTH.min(depth - first);
            let copy = copy.take(count * wide);
            for (copy, row) in copy.chunks_exact_mut(wide).zip(b[first * columns..].chunks(columns)) {
                copy[..panel.len()].copy_from_slice(&row[panel.clone()]);
                copy[panel.len()..].fill(0.0);
            }
            let walk = Walk { count: [1, 1, count], a: [0, 0, 1], b: [0, 0, wide] };
            let (a, sums) = (a[rows.start * depth + first..].as_ptr(), Shared::new(sums));
            // SAFETY: `sums` has `wide` values for every row.
            let place = |row: usize| (a.wrapping_add(row * depth), unsafe { sums.at(row * wide) });
            // SAFETY: `a` has `count` more values in each of the rows; the copy has as many rows of whole vectors.
            unsafe { multiply(simd, Panel { walk, b: copy.as_ptr(), columns: wide, add: true }, rows.len(), place) };
        }
        for (row, sums) in rows.zip(sums.chunks_exact(wide)) {
            // SAFETY: these are columns of a row of the output that no other task writes.
            unsafe { out.at(row * columns + panel.start).copy_from_nonoverlapping(sums.as_ptr(), panel.len()) };
        }
    }
}
