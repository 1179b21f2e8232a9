//! SIMD vectors of f32, and memory shared by tasks.

use pulp::Simd;

/// Largest number of values of a vector in any instruction set.
pub const LANES: usize = 16;

/// Loads a vector at `from`.
///
/// # Safety
/// A whole vector can be read there.
#[inline(always)]
pub unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: the caller's promise; vectors are plain values of any alignment.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// Stores a vector at `to`.
///
/// # Safety
/// A whole vector can be written there.
#[inline(always)]
pub unsafe fn store<S: Simd>(to: *mut f32, values: S::f32s) {
    // SAFETY: the caller's promise; vectors are plain values of any alignment.
    unsafe { to.cast::<S::f32s>().write_unaligned(values) }
}

/// Writes vectors of a result. Results that do not fit into the caches are written with streaming stores, so that cache
/// lines are not fetched only to be overwritten.
#[derive(Clone, Copy)]
pub struct Writer {
    /// Has no effect on other processors than x86-64.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    past_caches: bool,
}

impl Writer {
    /// Smallest number of values of a result that is written with streaming stores: 8 MiB.
    const LARGE: usize = 1 << 21;

    /// Writer for a result of `count` values.
    pub fn of(count: usize) -> Self {
        Self { past_caches: count >= Self::LARGE }
    }

    /// Writer for an in-place result, whose memory is in the cache.
    pub fn in_place() -> Self {
        Self { past_caches: false }
    }

    /// Stores a vector at `to`. [`finish`](Self::finish) must be called before another thread reads it.
    ///
    /// # Safety
    /// Those of [`store`].
    #[inline(always)]
    pub unsafe fn store<S: Simd>(self, to: *mut f32, values: S::f32s) {
        #[cfg(target_arch = "x86_64")]
        if self.past_caches && to.addr().is_multiple_of(size_of::<S::f32s>()) {
            use std::arch::x86_64::{__m256, __m512, _mm256_stream_ps, _mm512_stream_ps};
            use std::mem::transmute_copy;

            // SAFETY: the caller's promise; the place is aligned, and vectors have this size where the instruction
            // exists.
            unsafe {
                match size_of::<S::f32s>() {
                    64 => return _mm512_stream_ps(to, transmute_copy::<_, __m512>(&values)),
                    32 => return _mm256_stream_ps(to, transmute_copy::<_, __m256>(&values)),
                    _ => {}
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { store::<S>(to, values) }
    }

    /// [`store`](Self::store) for the first `count` values, as [`store_some`].
    ///
    /// # Safety
    /// Those of [`store_some`].
    #[inline(always)]
    pub unsafe fn store_some<S: Simd>(self, simd: S, to: *mut f32, values: S::f32s, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match count >= S::F32_LANES {
                true => self.store::<S>(to, values),
                false => store_some(simd, to, values, count),
            }
        }
    }

    /// Makes all written values visible to other threads.
    pub fn finish(self) {
        #[cfg(target_arch = "x86_64")]
        if self.past_caches {
            // SAFETY: every x86-64 has it.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

/// Loads the first `count` values of a vector at `from`, followed by zeros.
///
/// # Safety
/// `count` values, or a whole vector if that is less, can be read there.
#[inline(always)]
pub unsafe fn load_some<S: Simd>(simd: S, from: *const f32, count: usize) -> S::f32s {
    if count >= S::F32_LANES {
        // SAFETY: the caller's promise.
        return unsafe { load::<S>(from) };
    }
    // SAFETY: the caller's promise.
    simd.partial_load_f32s(unsafe { std::slice::from_raw_parts(from, count) })
}

/// Stores the first `count` values of a vector at `to`.
///
/// # Safety
/// `count` values, or a whole vector if that is less, can be written there.
#[inline(always)]
pub unsafe fn store_some<S: Simd>(simd: S, to: *mut f32, values: S::f32s, count: usize) {
    if count >= S::F32_LANES {
        // SAFETY: the caller's promise.
        return unsafe { store::<S>(to, values) };
    }
    // SAFETY: the caller's promise; a partial store reads nothing.
    simd.partial_store_f32s(unsafe { std::slice::from_raw_parts_mut(to, count) }, values);
}

/// Prefetches the cache line at `place`, which may be any address.
#[inline(always)]
pub fn prefetch(place: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing and never faults; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Memory into which tasks write at disjoint places.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: only a pointer; callers that write through it guarantee that tasks write at disjoint places.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The memory of `values`.
    pub fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// Address `offset` values after the start, which may be outside of the memory.
    #[inline(always)]
    pub fn wrapping_at(self, offset: usize) -> *const f32 {
        self.0.wrapping_add(offset)
    }

    /// Address `offset` values after the start.
    ///
    /// # Safety
    /// The address is within the memory.
    #[inline(always)]
    pub unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// Number of values of a cache line.
pub const LINE: usize = 16;

/// `count` rounded up to an odd number of cache lines, so that consecutive rows, or every second row, do not compete
/// for the same cache set.
pub const fn spread(count: usize) -> usize {
    (count.div_ceil(LINE) | 1) * LINE
}

/// Uninitialized memory for `count` values, all of which the caller must write before any is read.
///
/// Kernels write every value of their result; filling it with zeros first would be another pass over memory.
#[allow(clippy::uninit_vec)] // Valgrind watches over the promise, in CI.
pub fn unwritten(count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    // SAFETY: the capacity is there, every bit pattern is an f32, and callers write each value before they read it.
    unsafe { values.set_len(count) };
    values
}

/// Scratch memory of a thread that is reused by its next task.
#[derive(Default)]
pub struct Scratch(Vec<f32>);

impl Scratch {
    /// `count` values with arbitrary content.
    pub fn take(&mut self, count: usize) -> &mut [f32] {
        if self.0.len() < count {
            self.0 = unwritten(count);
        }
        &mut self.0[..count]
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::*;
    use crate::backend::tests::instruction_sets;

    /// Copies values in vectors, of which the last may be partial.
    struct Copy<'a> {
        from: &'a [f32],
        to: &'a mut [f32],
        writer: Writer,
    }

    impl WithSimd for Copy<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for start in (0..self.from.len()).step_by(S::F32_LANES) {
                let count = (self.from.len() - start).min(S::F32_LANES);
                // SAFETY: both slices have that many values left.
                unsafe {
                    let values = load_some(simd, self.from[start..].as_ptr(), count);
                    self.writer.store_some(simd, self.to[start..].as_mut_ptr(), values, count);
                }
            }
            self.writer.finish();
        }
    }

    #[test]
    fn results_are_the_same_past_the_caches_wherever_they_begin() {
        assert!(Writer::of(Writer::LARGE).past_caches && !Writer::of(Writer::LARGE - 1).past_caches);
        let from: Vec<f32> = (1..=1000u16).map(f32::from).collect();
        for (arch, shift) in instruction_sets().into_iter().flat_map(|arch| (0..LINE).map(move |shift| (arch, shift))) {
            for writer in [Writer::in_place(), Writer::of(Writer::LARGE)] {
                let mut to = vec![0.0; LINE + from.len() + 1];
                arch.dispatch(Copy { from: &from, to: &mut to[shift..][..from.len()], writer });
                assert_eq!(to[shift..][..from.len()], from, "{arch:?} {shift}");
                assert_eq!(to.iter().filter(|&&value| value == 0.0).count(), LINE + 1, "{arch:?} {shift}");
            }
        }
    }
}
