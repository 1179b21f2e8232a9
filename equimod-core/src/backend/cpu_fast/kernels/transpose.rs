//! From planes, `[N, C, H, W]`, to rows of channels, `[N, H, W, C]`, and back.

use rayon::prelude::*;

use super::vectors::unwritten;

/// Side of the squares in which an image is transposed, so that both sides of the copy stay in the cache.
const SQUARE: usize = 16;

/// `images` matrices `[rows, width]` one after the other, each transposed.
pub fn transposed(values: &[f32], images: usize, rows: usize, width: usize) -> Vec<f32> {
    let mut out = unwritten(images * rows * width);
    let image_len = (rows * width).max(1);
    out.par_chunks_mut(image_len).zip(values.par_chunks(image_len)).for_each(|(out, values)| {
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
