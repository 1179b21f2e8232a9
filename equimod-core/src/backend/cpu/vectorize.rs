//! Plain loops, compiled for the instruction sets that the machine turns out to have.

use pulp::{Arch, NullaryFnOnce};

/// Runs `f` as compiled for the best instruction set found at run time.
///
/// Mark `f` and what it calls `#[inline(always)]`: only what is inlined here is compiled anew.
pub fn vectorized<R>(f: impl FnMut() -> R) -> R {
    vectorized_for(Arch::new(), f)
}

/// [`vectorized`] for a given instruction set.
pub fn vectorized_for<R>(arch: Arch, f: impl FnMut() -> R) -> R {
    arch.dispatch(Inlined(f))
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
