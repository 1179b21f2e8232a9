//! Destination of the gradients of a convolution's input, combined with existing gradients and masked by the ReLU that
//! produced the input.

use pulp::Simd;

use super::vectors::{Shared, Writer, load_some, prefetch, store_some};
use crate::backend::contract::Accumulate;

/// Destination of gradients.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Memory of the gradients.
    pub out: Shared,
    /// Combination with the existing gradients.
    pub accumulate: Accumulate<()>,
    /// Output of the ReLU, which masks the gradients to where it is above 0; no mask without a ReLU.
    pub relu: Option<&'a [f32]>,
}

impl Target<'_> {
    /// Destination that is overwritten, without a ReLU.
    pub fn new(out: Shared) -> Self {
        Self { out, accumulate: Accumulate::Overwrite, relu: None }
    }

    /// Whether gradients are added to existing ones.
    pub fn adds(&self) -> bool {
        self.accumulate != Accumulate::Overwrite
    }

    /// Writer for `count` gradients in total.
    pub fn writer(&self, count: usize) -> Writer {
        if self.adds() { Writer::in_place() } else { Writer::of(count) }
    }

    /// Prefetches the values that will be read at a place, which may be outside of the memory.
    #[inline(always)]
    pub fn prefetch(&self, place: usize) {
        if self.adds() {
            prefetch(self.out.wrapping_at(place));
        }
        if let Some(relu) = self.relu {
            prefetch(relu.as_ptr().wrapping_add(place));
        }
    }

    /// The first `count` values of a vector for the places from `place` on, combined with the existing values and
    /// masked.
    ///
    /// # Safety
    /// There are `count` places from `place` on, or at least as many as a vector has values.
    #[inline(always)]
    pub unsafe fn accumulated<S: Simd>(&self, simd: S, place: usize, count: usize, values: S::f32s) -> S::f32s {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = match self.adds() {
                true => simd.add_f32s(values, load_some(simd, self.out.at(place), count)),
                false => values,
            };
            self.masked(simd, place, count, sum)
        }
    }

    /// Values masked by the ReLU: 0 where its output is 0.
    #[inline(always)]
    unsafe fn masked<S: Simd>(&self, simd: S, place: usize, count: usize, values: S::f32s) -> S::f32s {
        let Some(relu) = self.relu else { return values };
        let zero = simd.splat_f32s(0.0);
        // SAFETY: the ReLU has an output for every place.
        let above = unsafe { simd.greater_than_f32s(load_some(simd, relu.as_ptr().add(place), count), zero) };
        simd.select_f32s(above, values, zero)
    }

    /// Masks the gradients at `count` places from `place` on.
    ///
    /// # Safety
    /// There are `count` places from `place` on, and no other task reads or writes them at the same time.
    #[inline(always)]
    pub unsafe fn mask<S: Simd>(&self, simd: S, place: usize, count: usize) {
        if self.relu.is_none() {
            return;
        }
        for first in (0..count).step_by(S::F32_LANES) {
            let (place, count) = (place + first, (count - first).min(S::F32_LANES));
            // SAFETY: the caller's promise.
            unsafe {
                let to = self.out.at(place);
                store_some(simd, to, self.masked(simd, place, count, load_some(simd, to, count)), count);
            }
        }
    }
}
