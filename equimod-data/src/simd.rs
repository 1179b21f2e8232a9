//! Plain loops compiled for the instruction sets that are detected at run time.

use pulp::{Arch, NullaryFnOnce};

/// Runs `f` compiled for the best instruction set found at run time. `f` and what it calls must be `#[inline(always)]`,
/// because only inlined code is recompiled.
///
/// It prefers 256-bit vectors, because the compiler generates slower code for loops over bytes with longer ones.
pub(crate) fn vectorized<R>(f: impl FnMut() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, Inlined(f));
    }
    vectorized_widest(f)
}

/// Like [`vectorized`], but with the longest vectors: for arithmetic in double precision.
pub(crate) fn vectorized_widest<R>(f: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Inlined(f))
}

// A wrapper, because a closure itself would be called through a shim that is not inlined.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}

/// `value` truncated to an integer and clamped to `[low, high]`; NaN becomes `low`. (A checked cast would prevent
/// vectorization.)
#[inline(always)]
#[allow(clippy::manual_clamp)] // `clamp` propagates NaN.
pub(crate) fn truncated_within(value: f64, low: i32, high: i32) -> i32 {
    let bounded = value.max(f64::from(low)).min(f64::from(high));
    // SAFETY: `max` replaces NaN by `low`, so that the value is a number between two bounds that fit.
    unsafe { bounded.to_int_unchecked() }
}

/// Like [`truncated_within`], for `[0, 255]`.
#[inline(always)]
#[allow(clippy::manual_clamp)] // `clamp` propagates NaN.
pub(crate) fn truncated_to_byte(value: f32) -> i32 {
    let bounded = value.max(0.0).min(255.0);
    // SAFETY: `max` replaces NaN by 0, so that the value is a number from 0 to 255.
    unsafe { bounded.to_int_unchecked() }
}
