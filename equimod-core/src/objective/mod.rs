//! Invariance objectives: what pulls the views of an image together.

mod barlow_twins;
mod byol;
mod embeddings;
mod moco_v3;
mod none;
mod nt_xent;
mod predictor;
mod simclr;
mod simsiam;
mod two_views;
mod vicreg;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use barlow_twins::{BarlowTwins, BarlowTwinsConfig, barlow_twins};
pub use byol::{Byol, ByolConfig, ByolEmbeddings, byol};
pub use embeddings::spread;
pub use moco_v3::{MocoV3, MocoV3Config, contrast};
pub use none::NoneConfig;
pub use nt_xent::{Negatives, normalise_rows, nt_xent, nt_xent_with};
pub use predictor::ViewPredictor;
pub use simclr::{SimClr, SimClrConfig};
pub use simsiam::{SimSiam, SimSiamConfig, simsiam};
pub(crate) use two_views::{centred, over_all_rows};
pub use two_views::{mean_cosine, mean_over_rows, swapped};
pub use vicreg::{VicReg, VicRegConfig, VicRegWeights, vicreg};
pub(crate) use vicreg::{covariances, shortage};

use crate::Result;
use crate::build::BuildContext;
use crate::ema::TargetConfig;
use crate::head::HeadSpec;
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Where the projection head of an objective that has a target network lies, in both networks.
pub const PROJECTION_HEAD: &str = "objective.projection_head";

/// A loss over the features of two views.
pub trait Objective: Send + Sync {
    /// The loss of a step and what to log of it.
    fn forward(&self, step: &StepContext) -> Result<Term>;
}

/// Settings of an objective.
pub trait ObjectiveSettings {
    /// Builds the objective, its tensors under `scope`.
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>>;

    /// Every problem of the settings, but for that of the weight.
    fn problems(&self) -> Vec<String>;

    /// λ of the invariance term.
    fn weight(&self) -> f64;

    /// Whether it predicts one view's embedding from the other's.
    fn has_predictor(&self) -> bool {
        false
    }

    /// The target network and the head at [`PROJECTION_HEAD`] that it needs, if it does.
    fn target(&self) -> Option<(TargetConfig, &HeadSpec)> {
        None
    }
}

/// Which objective, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ObjectiveConfig {
    /// Contrast of views (Chen et al., arXiv 2002.05709).
    SimClr(SimClrConfig),
    /// Prediction of a target network's embedding (Grill et al., arXiv 2006.07733).
    Byol(ByolConfig),
    /// Cross-correlation of views (Zbontar et al., arXiv 2103.03230).
    #[serde(rename = "barlow-twins")]
    BarlowTwins(BarlowTwinsConfig),
    /// Invariance, variance and covariance (Bardes et al., arXiv 2105.04906).
    VicReg(VicRegConfig),
    /// Prediction of the other view's embedding (Chen and He, arXiv 2011.10566).
    SimSiam(SimSiamConfig),
    /// Contrast with a target network's embeddings (Chen, Xie and He, arXiv 2104.02057).
    #[serde(rename = "moco-v3")]
    MocoV3(MocoV3Config),
    /// Equivariance alone.
    None(NoneConfig),
}

impl ObjectiveConfig {
    /// Every objective: name in recipes, one line.
    pub const LIST: [(&'static str, &'static str); 7] = [
        ("simclr", "contrast of the views of an image with all others (SimCLR, arXiv 2002.05709)"),
        ("byol", "prediction of a target network's embedding of the other view (BYOL, arXiv 2006.07733)"),
        (
            "barlow-twins",
            "features that correlate between views with themselves alone (Barlow Twins, arXiv 2103.03230)",
        ),
        ("vicreg", "near views, features that vary and do not covary (VICReg, arXiv 2105.04906)"),
        ("simsiam", "prediction of the other view's embedding behind a stop-gradient (SimSiam, arXiv 2011.10566)"),
        ("moco-v3", "contrast with a target network's embeddings of the batch (MoCo v3, arXiv 2104.02057)"),
        ("none", "no invariance: equivariance modules alone"),
    ];

    /// What every objective says of itself.
    pub fn settings(&self) -> &dyn ObjectiveSettings {
        match self {
            Self::SimClr(config) => config,
            Self::Byol(config) => config,
            Self::BarlowTwins(config) => config,
            Self::VicReg(config) => config,
            Self::SimSiam(config) => config,
            Self::MocoV3(config) => config,
            Self::None(config) => config,
        }
    }

    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.settings().problems();
        problems.extend(negative_weights("the objective", &[("weight", self.settings().weight())]));
        problems
    }
}

/// A problem for every weight of the part called `part` that is no weight.
pub(crate) fn negative_weights(part: &str, weights: &[(&str, f64)]) -> Vec<String> {
    let bad = weights.iter().filter(|(_, value)| !(value.is_finite() && *value >= 0.0));
    bad.map(|(name, value)| format!("{part}'s {name} is {value}; it must be 0 or more")).collect()
}

/// What is wrong with the temperature of the part called `part`.
pub(crate) fn temperature_problems(part: &str, temperature: f64) -> Vec<String> {
    match temperature > 0.0 && temperature.is_finite() {
        true => Vec::new(),
        false => vec![format!("{part}'s temperature is {temperature}; it must be above 0")],
    }
}
