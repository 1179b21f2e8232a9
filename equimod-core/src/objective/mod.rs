//! Invariance objectives, which pull the views of an image together.
//!
//! A new objective is one file here and one line in the table of [`ObjectiveConfig`].

mod barlow_twins;
mod byol;
mod embeddings;
mod moco_v3;
mod none;
mod nt_xent;
mod nt_xent_rows;
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
pub use nt_xent::{Negatives, normalize_rows, nt_xent, nt_xent_with};
pub use nt_xent_rows::nt_xent_rows;
pub use predictor::ViewPredictor;
pub use simclr::{SimClr, SimClrConfig};
pub use simsiam::{SimSiam, SimSiamConfig, simsiam};
pub(crate) use two_views::{centered, over_all_rows};
pub use two_views::{mean_cosine, mean_over_rows, swapped};
pub use vicreg::{VicReg, VicRegConfig, VicRegWeights, vicreg};
pub(crate) use vicreg::{covariances, shortage};

use crate::Result;
use crate::build::BuildContext;
use crate::ema::TargetConfig;
use crate::head::HeadSpec;
use crate::params::Scope;
use crate::registry::Entry;
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

macro_rules! objectives {
    ($($kind:ident($settings:ty) $name:literal $title:literal $arxiv:literal $about:literal)*) => {
        /// Which objective, with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind")]
        pub enum ObjectiveConfig {
            $(#[doc = $about] #[serde(rename = $name)] $kind($settings),)*
        }

        impl ObjectiveConfig {
            /// Every objective.
            pub const LIST: &[Entry] = &[$(Entry { name: $name, title: $title, arxiv: $arxiv, about: $about }),*];

            /// The settings of the objective.
            pub fn settings(&self) -> &dyn ObjectiveSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }

            /// Its name in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }
        }
    };
}

objectives! {
    SimClr(SimClrConfig) "simclr" "SimCLR" "2002.05709" "contrast of the views of an image with all others"
    Byol(ByolConfig) "byol" "BYOL" "2006.07733" "prediction of a target network's embedding of the other view"
    BarlowTwins(BarlowTwinsConfig) "barlow-twins" "Barlow Twins" "2103.03230"
        "features that correlate between views with themselves alone"
    VicReg(VicRegConfig) "vicreg" "VICReg" "2105.04906" "near views, features that vary and do not covary"
    SimSiam(SimSiamConfig) "simsiam" "SimSiam" "2011.10566"
        "prediction of the other view's embedding behind a stop-gradient"
    MocoV3(MocoV3Config) "moco-v3" "MoCo v3" "2104.02057" "contrast with a target network's embeddings of the batch"
    None(NoneConfig) "none" "none" "" "no invariance: equivariance modules alone"
}

impl ObjectiveConfig {
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
