//! Element types of the CPU kernels.

use candle_core::WithDType;
use num_traits::Float;

/// f32 (fast) or f64 (portable, for proofs).
pub trait Element: WithDType + Float + Send + Sync + 'static {
    /// From 64 bits, rounded.
    fn narrow(value: f64) -> Self;
    /// To 64 bits.
    fn wide(self) -> f64;
}

impl Element for f32 {
    fn narrow(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        self.into()
    }
}

impl Element for f64 {
    fn narrow(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }
}
