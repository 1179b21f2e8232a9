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
