//! Transformed weights.

use std::ops::Range;

use pulp::Simd;

use super::super::vectors::{LANES, load, store};
use super::tiles::Transformed;
use super::{Family, SIDE, TAPS, Transform};

/// Weights of a convolution, `[O, C, 3, 3]`.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// Values.
    pub w: &'a [f32],
    /// Number of channels that are read.
    pub inputs: usize,
    /// Number of channels that are computed.
    pub outputs: usize,
    /// Whether O and C are exchanged and windows rotated by 180 degrees, as in the backward pass.
    pub rotated: bool,
}

impl Weights<'_> {
    /// The window from channel `input` to channel `output`.
    #[inline(always)]
    fn window(&self, input: usize, output: usize) -> &[f32] {
        let place = if self.rotated { input * self.outputs + output } else { output * self.inputs + input };
        &self.w[place * TAPS..][..TAPS]
    }

    /// Transforms the windows from channels `inputs` to channels `columns`: G·g·Gᵀ, as one row for each input in `out`,
    /// whose "tiles" are the inputs. Further columns become 0.
    ///
    /// # Safety
    /// `out` has a row of whole vectors for each input.
    #[inline(always)]
    pub unsafe fn transform<S: Simd, F: Family>(
        &self,
        simd: S,
        inputs: Range<usize>,
        columns: Range<usize>,
        out: Transformed,
    ) {
        let mut taps = [[0f32; LANES]; TAPS];
        for (row, input) in inputs.enumerate() {
            for c in (0..out.width).step_by(S::F32_LANES) {
                for lane in 0..S::F32_LANES {
                    match c + lane < columns.len() {
                        true => {
                            let window = self.window(input, columns.start + c + lane);
                            for tap in 0..TAPS {
                                taps[tap][lane] = window[if self.rotated { TAPS - 1 - tap } else { tap }];
                            }
                        }
                        false => taps.iter_mut().for_each(|tap| tap[lane] = 0.0),
                    }
                }
                F::Weights::both_sides(
                    simd,
                    #[inline(always)]
                    // SAFETY: `taps` has as many lanes as any vector.
                    |i, j| unsafe { load::<S>(taps[3 * i + j].as_ptr()) },
                    #[inline(always)]
                    // SAFETY: rows are whole vectors.
                    |i, j, value| unsafe { store::<S>(out.row(SIDE * i + j, row).add(c), value) },
                );
            }
        }
    }
}
