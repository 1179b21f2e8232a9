//! Conversion between planes, `[N, C, H, W]`, and rows of channels, `[N, H, W, C]`.

use rayon::prelude::*;

use super::vectors::unwritten;

/// Side of the blocks in which an image is transposed, so that source and destination stay in the cache.
const SQUARE: usize = 16;

/// Transposes each of `images` consecutive matrices `[rows, width]`.
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
