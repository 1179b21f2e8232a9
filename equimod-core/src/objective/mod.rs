//! Invariance objectives: what pulls the views of an image together.

mod nt_xent;
mod simclr;

use serde::{Deserialize, Serialize};

pub use nt_xent::{Negatives, normalise_rows, nt_xent, nt_xent_with};
pub use simclr::{SimClr, SimClrConfig};

use crate::Result;
use crate::collective::SharedCollective;
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// A loss over the features of two views.
pub trait Objective: Send + Sync {
    /// The loss of a step and what to log of it.
    fn forward(&self, step: &StepContext) -> Result<Term>;
}

/// Which objective, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ObjectiveConfig {
    /// Contrast of views (Chen et al., arXiv 2002.05709).
    SimClr(SimClrConfig),
}

impl ObjectiveConfig {
    /// Every objective: name in recipes, one line.
    pub const LIST: [(&'static str, &'static str); 1] =
        [("simclr", "contrast of the views of an image with all others (SimCLR, arXiv 2002.05709)")];

    /// Builds the objective for features of width `features`, its tensors under `scope`.
    pub fn build(
        &self,
        features: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Box<dyn Objective>> {
        match self {
            Self::SimClr(config) => Ok(Box::new(SimClr::new(config, features, collective, scope)?)),
        }
    }

    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        match self {
            Self::SimClr(config) => config.validate(),
        }
    }

    /// λ of the invariance term.
    pub fn weight(&self) -> f64 {
        match self {
            Self::SimClr(config) => config.weight,
        }
    }
}
