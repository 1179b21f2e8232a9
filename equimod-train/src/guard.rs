//! Looks at loss and gradient before any trained weight changes.

use equimod_core::StepOutcome;

use crate::{Error, Result};

/// The gradient's norm, or an error where loss or gradient is not a number; `step` is the one that would be taken.
pub fn check(outcome: &StepOutcome, step: u64) -> Result<f64> {
    let diverged = |what: &str, value: f64| Error::Diverged { step, what: format!("the {what} is {value}") };
    if !outcome.loss.is_finite() {
        return Err(diverged("loss", outcome.loss));
    }
    let norm = outcome.gradients.norm()?;
    if !norm.is_finite() {
        return Err(diverged("gradient's norm", norm));
    }
    Ok(norm)
}
