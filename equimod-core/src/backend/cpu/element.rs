//! Element types of the CPU's kernels.

use candle_core::WithDType;
use num_traits::Float;

/// An element type of the kernels: f32 or f64.
pub trait Element: WithDType + Float + Send + Sync + 'static {
    /// Nearest value of this type.
    fn narrow(value: f64) -> Self;
    /// The same value in f64.
    fn wide(self) -> f64;
}

impl Element for f32 {
    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Element for f64 {
    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

/// A constant in the element type.
#[inline(always)]
pub(super) fn constant<T: Float>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}
