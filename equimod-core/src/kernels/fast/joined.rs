//! Gradients on their way through the ReLU that made a convolution's input.

use pulp::Simd;

use super::lanes::{Shared, Writer, load_some, prefetch, store_some};

/// What lies at the places of gradients before they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// Nothing: they are all that there is.
    Nothing,
    /// Others of the ReLU's output, to which they are added before all go through it.
    Behind,
    /// Others of the ReLU's input, which are through it: it stops nothing of them any more.
    Before,
}

/// Where gradients go.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The places.
    pub out: Shared,
    /// What is there.
    pub there: There,
    /// What the ReLU gave at every place: gradients pass where it is above 0. All do if there was none.
    pub relu: Option<&'a [f32]>,
}

impl Target<'_> {
    /// Places where nothing is, and nothing stops what comes.
    pub fn new(out: Shared) -> Self {
        Self { out, there: There::Nothing, relu: None }
    }

    /// Whether gradients are added to what is there.
    pub fn adds(&self) -> bool {
        self.there != There::Nothing
    }

    /// How `count` of them in all are written.
    pub fn writer(&self, count: usize) -> Writer {
        if self.adds() { Writer::in_place() } else { Writer::of(count) }
    }

    /// Fetches what will be read at a place, which may be anywhere.
    #[inline(always)]
    pub fn prefetch(&self, place: usize) {
        if self.adds() {
            prefetch(self.out.wrapping_at(place));
        }
        if let Some(relu) = self.relu {
            prefetch(relu.as_ptr().wrapping_add(place));
        }
    }

    /// What the first `count` values of a vector for the places from `place` on become there.
    ///
    /// # Safety
    /// There are so many places, or as many as a vector has if that is less.
    #[inline(always)]
    pub unsafe fn joined<S: Simd>(&self, simd: S, place: usize, count: usize, values: S::f32s) -> S::f32s {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = match self.adds() {
                true => simd.add_f32s(values, load_some(simd, self.out.at(place), count)),
                false => values,
            };
            self.passed(simd, place, count, sum)
        }
    }

    /// What passes of them.
    #[inline(always)]
    unsafe fn passed<S: Simd>(&self, simd: S, place: usize, count: usize, values: S::f32s) -> S::f32s {
        let Some(relu) = self.relu else { return values };
        let zero = simd.splat_f32s(0.0);
        // SAFETY: the ReLU gave a value for every place.
        let above = unsafe { simd.greater_than_f32s(load_some(simd, relu.as_ptr().add(place), count), zero) };
        simd.select_f32s(above, values, zero)
    }

    /// Lets what lies at `count` places from `place` on through the ReLU.
    ///
    /// # Safety
    /// There are so many places, and nobody else reads or writes them now.
    #[inline(always)]
    pub unsafe fn pass<S: Simd>(&self, simd: S, place: usize, count: usize) {
        if self.relu.is_none() {
            return;
        }
        for first in (0..count).step_by(S::F32_LANES) {
            let (place, count) = (place + first, (count - first).min(S::F32_LANES));
            // SAFETY: the caller's promise.
            unsafe {
                let to = self.out.at(place);
                store_some(simd, to, self.passed(simd, place, count, load_some(simd, to, count)), count);
            }
        }
    }
}
