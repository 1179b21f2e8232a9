//! Evaluation of a network during training.

use equimod_core::Model;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Evaluates the network during training.
pub trait Probe {
    /// Named scores of the network that a checkpoint would hold now; higher is better. Any randomness must come from
    /// seeds of the probe's own, so that training does not depend on it.
    ///
    /// # Errors
    ///
    /// If the evaluation fails. The trainer reports it and continues.
    fn evaluate(&mut self, model: &Model) -> Result<Vec<(String, f64)>>;
}

/// The best probe of a run so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Number of steps before the probe.
    pub step: u64,
    /// Score that selects the best checkpoint.
    pub score: f64,
}
