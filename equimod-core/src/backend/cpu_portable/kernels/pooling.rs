//! Max-pool with the indices of the maxima, and global average pool.

use rayon::prelude::*;

use crate::backend::contract::PoolShape;
use crate::backend::cpu::Element;

/// Maximum of each window and its index in the plane; the first of equal values.
pub fn maximum<T: Element>(x: &[T], s: PoolShape, out: &mut [T], winners: &mut [u32]) {
    let (plane, area) = (s.in_size.0 * s.in_size.1, s.out_size.0 * s.out_size.1);
    out.par_chunks_mut(area).zip(winners.par_chunks_mut(area)).zip(x.par_chunks(plane)).for_each(
        |((out, winners), x)| {
            for oy in 0..s.out_size.0 {
                for ox in 0..s.out_size.1 {
                    let winner = winner(x, (oy, ox), s);
                    out[oy * s.out_size.1 + ox] = x[winner];
                    winners[oy * s.out_size.1 + ox] = winner as u32;
                }
            }
        },
    );
}

fn winner<T: Element>(x: &[T], (oy, ox): (usize, usize), s: PoolShape) -> usize {
    let columns = s.columns(ox);
    let mut best: Option<usize> = None;
    for y in s.rows(oy) {
        for index in y * s.in_size.1 + columns.start..y * s.in_size.1 + columns.end {
            // NaN wins, so that it propagates.
            if best.is_none_or(|best| x[index] > x[best] || (x[index].is_nan() && !x[best].is_nan())) {
                best = Some(index);
            }
        }
    }
    best.unwrap_or(0)
}

/// Adds each gradient at the index of its maximum.
pub fn maximum_backward<T: Element>(dy: &[T], winners: &[u32], plane: usize, area: usize, dx: &mut [T]) {
    dx.par_chunks_mut(plane).zip(dy.par_chunks(area).zip(winners.par_chunks(area))).for_each(|(dx, (dy, winners))| {
        for (&dy, &winner) in dy.iter().zip(winners) {
            let sum = &mut dx[winner as usize];
            *sum += dy;
        }
    });
}

/// Mean of each plane.
pub fn average<T: Element>(x: &[T], area: usize, out: &mut [T]) {
    out.par_iter_mut().zip(x.par_chunks(area)).for_each(|(out, x)| {
        *out = T::narrow(x.iter().map(|v| v.wide()).sum::<f64>() / area as f64);
    });
}

/// Gradient of each mean, distributed evenly over its plane.
pub fn average_backward<T: Element>(dy: &[T], area: usize, dx: &mut [T]) {
    let share = T::narrow(1.0 / area as f64);
    dx.par_chunks_mut(area).zip(dy.par_iter()).for_each(|(dx, &dy)| dx.fill(dy * share));
}
