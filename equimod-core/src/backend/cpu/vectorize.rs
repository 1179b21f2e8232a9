//! Plain loops, compiled for the instruction sets found at run time.

use pulp::{Arch, NullaryFnOnce};

/// Runs `f`, compiled for the best instruction set found at run time.
///
/// `f` and the functions it calls must be `#[inline(always)]`: only inlined code is compiled for that instruction set.
pub fn vectorized<R>(f: impl FnMut() -> R) -> R {
    vectorized_for(Arch::new(), f)
}

/// [`vectorized`] for a given instruction set.
pub fn vectorized_for<R>(arch: Arch, f: impl FnMut() -> R) -> R {
    arch.dispatch(Inlined(f))
}

// A closure passed directly would be called through a shim that is not inlined.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}
