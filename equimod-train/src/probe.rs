//! What looks at a network while it is trained.

use equimod_core::Model;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Evaluates the network that a checkpoint of this moment would hold.
pub trait Probe {
    /// Named scores, the higher the better. What it draws at random comes from seeds of its own.
    fn look(&mut self, model: &Model) -> Result<Vec<(String, f64)>>;
}

/// The best probe of a run so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After how many steps.
    pub step: u64,
    /// The score that decides.
    pub score: f64,
}
