//! From planes, `[N, C, H, W]`, to rows of channels, `[N, H, W, C]`, and back.

use rayon::prelude::*;

use super::lanes::unwritten;

/// Side of the squares in which a picture is turned round, so that both sides of the copy stay in the cache.
const SQUARE: usize = 16;

/// `pictures` matrices `[rows, columns]` one after the other, each transposed.
pub fn transposed(values: &[f32], pictures: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut out = unwritten(pictures * rows * columns);
    let image = (rows * columns).max(1);
    out.par_chunks_mut(image).zip(values.par_chunks(image)).for_each(|(out, values)| {
        for row in (0..rows).step_by(SQUARE) {
            for column in (0..columns).step_by(SQUARE) {
                for c in column..(column + SQUARE).min(columns) {
                    for r in row..(row + SQUARE).min(rows) {
                        out[c * rows + r] = values[r * columns + c];
                    }
                }
            }
        }
    });
    out
}
