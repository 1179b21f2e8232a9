//! Where the gradients of a convolution's input are written: onto others, and through the ReLU that gave the input.

use pulp::Simd;

use super::vectors::{Shared, Writer, load_some, prefetch, store_some};
use crate::backend::contract::Accumulate;

/// Memory that gradients are written to.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The memory.
    pub out: Shared,
    /// What happens to the gradients that are there.
    pub accumulate: Accumulate<()>,
    /// Output of the ReLU at every place: gradients pass where it is above 0, and everywhere if there is no ReLU.
    pub relu: Option<&'a [f32]>,
}

impl Target<'_> {
    /// Memory that is overwritten, without a ReLU.
    pub fn new(out: Shared) -> Self {
        Self { out, accumulate: Accumulate::Overwrite, relu: None }
    }

    /// Whether gradients are added to those that are there.
    pub fn adds(&self) -> bool {
        self.accumulate != Accumulate::Overwrite
    }

    /// The way to write `count` gradients in all.
    pub fn writer(&self, count: usize) -> Writer {
        if self.adds() { Writer::in_place() } else { Writer::of(count) }
    }

    /// Prefetches what will be read at a place, which may lie outside of the memory.
    #[inline(always)]
    pub fn prefetch(&self, place: usize) {
        if self.adds() {
            prefetch(self.out.wrapping_at(place));
        }
        if let Some(relu) = self.relu {
            prefetch(relu.as_ptr().wrapping_add(place));
        }
    }

    /// The first `count` values of a vector for the places from `place` on, added to what is there and masked.
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

    /// The values where the ReLU is above 0, else 0.
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
