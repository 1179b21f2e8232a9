//! From planes, `[N, C, H, W]`, to rows of channels, `[N, H, W, C]`, and back.

use rayon::prelude::*;

use super::lanes::unwritten;

/// Side of the squares in which a picture is turned round, so that both sides of the copy stay in the cache.
const SQUARE: usize = 16;

/// `pictures` matrices `[rows, width]` one after the other, each transposed.
pub fn transposed(values: &[f32], pictures: usize, rows: usize, width: usize) -> Vec<f32> {
    let mut out = unwritten(pictures * rows * width);
    let image = (rows * width).max(1);
    out.par_chunks_mut(image).zip(values.par_chunks(image)).for_each(|(out, values)| {
        out.par_chunks_mut((SQUARE * rows).max(1)).enumerate().for_each(|(band, out)| {
            let columns = band * SQUARE..(band * SQUARE + out.len() / rows);
            for row in (0..rows).step_by(SQUARE) {
                for (c, out) in columns.clone().zip(out.chunks_exact_mut(rows)) {
                    for r in row..(row + SQUARE).min(rows) {
                        out[r] = values[r * width + c];
                    }
                }
            }
        });
    });
    out
}
