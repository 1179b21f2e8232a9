//! Learning rates as functions of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A learning rate for each optimiser step, counted from 0.
pub trait Schedule: Send + Sync {
    /// The rate used at step `step`.
    fn rate(&self, step: u64) -> f64;
}

/// Linear warm-up, then half a cosine (method, section 5):
/// with W warm-up steps and T steps after it, at step k ≤ W `base·(1e-8 + (1 − 1e-8)·k/W)`, and later
/// `last + (base − last)·(1 + cos(π(k − W)/T))/2`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupCosine {
    /// The highest rate.
    pub base: f64,
    /// The rate at the end. Published: 1e-8 in pretraining, 1e-4 in the linear evaluation.
    pub last: f64,
    /// Steps of warm-up (W).
    pub warmup_steps: u64,
    /// Steps in all (W + T).
    pub total_steps: u64,
}

/// The warm-up starts at this share of the base rate, as the reference's `LinearLR` does.
const START: f64 = 1e-8;

impl Schedule for WarmupCosine {
    fn rate(&self, step: u64) -> f64 {
        let (warmup, step) = (self.warmup_steps as f64, step as f64);
        if step < warmup {
            return self.base * (START + (1.0 - START) * step / warmup);
        }
        let length = (self.total_steps as f64 - warmup).max(1.0);
        let progress = ((step - warmup) / length).min(1.0);
        self.last + (self.base - self.last) * (1.0 + (PI * progress).cos()) / 2.0
    }
}
