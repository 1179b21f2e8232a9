//! Invariance objectives: what pulls the views of an image together.

mod barlow_twins;
mod nt_xent;
mod simclr;
mod simsiam;
mod two_views;
mod vicreg;

use serde::{Deserialize, Serialize};

pub use barlow_twins::{BarlowTwins, BarlowTwinsConfig, barlow_twins};
pub use nt_xent::{Negatives, normalise_rows, nt_xent, nt_xent_with};
pub use simclr::{SimClr, SimClrConfig};
pub use simsiam::{SimSiam, SimSiamConfig, simsiam};
pub use vicreg::{VicReg, VicRegConfig, VicRegWeights, vicreg};

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
    /// Cross-correlation of views (Zbontar et al., arXiv 2103.03230).
    #[serde(rename = "barlow-twins")]
    BarlowTwins(BarlowTwinsConfig),
    /// Invariance, variance and covariance (Bardes et al., arXiv 2105.04906).
    VicReg(VicRegConfig),
    /// Prediction of the other view's embedding (Chen and He, arXiv 2011.10566).
    SimSiam(SimSiamConfig),
}

impl ObjectiveConfig {
    /// Every objective: name in recipes, one line.
    pub const LIST: [(&'static str, &'static str); 4] = [
        ("simclr", "contrast of the views of an image with all others (SimCLR, arXiv 2002.05709)"),
        (
            "barlow-twins",
            "features that correlate between views with themselves alone (Barlow Twins, arXiv 2103.03230)",
        ),
        ("vicreg", "near views, features that vary and do not covary (VICReg, arXiv 2105.04906)"),
        ("simsiam", "prediction of the other view's embedding behind a stop-gradient (SimSiam, arXiv 2011.10566)"),
    ];

    /// Builds the objective for features of width `features`, its tensors under `scope`.
    pub fn build(
        &self,
        features: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Box<dyn Objective>> {
        Ok(match self {
            Self::SimClr(config) => Box::new(SimClr::new(config, features, collective, scope)?),
            Self::BarlowTwins(config) => Box::new(BarlowTwins::new(config, features, collective, scope)?),
            Self::VicReg(config) => Box::new(VicReg::new(config, features, collective, scope)?),
            Self::SimSiam(config) => Box::new(SimSiam::new(config, features, collective, scope)?),
        })
    }

    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        match self {
            Self::SimClr(config) => config.validate(),
            Self::BarlowTwins(config) => config.validate(),
            Self::VicReg(config) => config.validate(),
            Self::SimSiam(config) => config.validate(),
        }
    }

    /// λ of the invariance term.
    pub fn weight(&self) -> f64 {
        match self {
            Self::SimClr(config) => config.weight,
            Self::BarlowTwins(config) => config.weight,
            Self::VicReg(config) => config.weight,
            Self::SimSiam(config) => config.weight,
        }
    }
}

/// A problem for every weight of a term that is no weight.
fn negative_weights(weights: &[(&str, f64)]) -> Vec<String> {
    let bad = weights.iter().filter(|(_, value)| !(value.is_finite() && *value >= 0.0));
    bad.map(|(name, value)| format!("the objective's {name} is {value}; it must be 0 or more")).collect()
}
