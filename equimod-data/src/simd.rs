//! Plain loops, compiled for the instruction sets that the machine turns out to have.

use pulp::{Arch, NullaryFnOnce};

/// Runs `f` as compiled for the best instruction set found at run time. Mark `f` and what it calls
/// `#[inline(always)]`: only what is inlined here is compiled anew.
///
/// Vectors of 256 bits are preferred to longer ones: for loops over bytes, what the compiler makes of those is slower.
pub(crate) fn vectorised<R>(f: impl FnMut() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, Inlined(f));
    }
    vectorised_widest(f)
}

/// As [`vectorised`], with the longest vectors: for arithmetic in double precision.
pub(crate) fn vectorised_widest<R>(f: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Inlined(f))
}

// A closure passed as it is would be called through a shim that is not inlined.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}

/// A value without what is behind the point, brought into `[low, high]`; not-a-number becomes `low`. (A checked cast would
/// keep a loop from being vectorised.)
#[inline(always)]
#[allow(clippy::manual_clamp)] // Clamping lets not-a-number through.
pub(crate) fn truncated_within(value: f64, low: i32, high: i32) -> i32 {
    let bounded = value.max(f64::from(low)).min(f64::from(high));
    // SAFETY: it is a number between two that fit, as the larger of not-a-number and `low` is `low`.
    unsafe { bounded.to_int_unchecked() }
}

/// As [`truncated_within`], for bytes.
#[inline(always)]
#[allow(clippy::manual_clamp)] // Clamping lets not-a-number through.
pub(crate) fn truncated_to_byte(value: f32) -> i32 {
    let bounded = value.max(0.0).min(255.0);
    // SAFETY: it is a number from 0 to 255, as the larger of not-a-number and 0 is 0.
    unsafe { bounded.to_int_unchecked() }
}
