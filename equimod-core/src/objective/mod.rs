//! Invariance objectives: self-supervised losses that pull the embeddings of two views of an image together.
//!
//! A new objective takes one file here and one line in the table of [`ObjectiveConfig`].

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

/// Scope of the projection head of an objective with a target network, the same in the online and the target network.
pub const PROJECTION_HEAD: &str = "objective.projection_head";

/// A loss over the features of two views, with its own heads.
pub trait Objective: Send + Sync {
    /// Loss of a step, a scalar, and its metrics.
    ///
    /// # Errors
    ///
    /// If the step lacks an input that the objective needs, or a tensor operation fails.
    fn forward(&self, step: &StepContext) -> Result<Term>;
}

/// Settings from which an objective is built.
pub trait ObjectiveSettings {
    /// Builds the objective with its parameters under `scope`.
    ///
    /// # Errors
    ///
    /// If the settings do not fit the context, or a parameter of the same name already exists.
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>>;

    /// One sentence for each invalid setting other than the weight; empty if all are valid.
    fn problems(&self) -> Vec<String>;

    /// λ_inv, the weight of the invariance term in the loss.
    fn weight(&self) -> f64;

    /// Whether the objective predicts the embedding of one view from that of the other.
    fn has_predictor(&self) -> bool {
        false
    }

    /// Settings of the target network and of its head at [`PROJECTION_HEAD`]; `None` for an objective without one.
    fn target(&self) -> Option<(TargetConfig, &HeadSpec)> {
        None
    }
}

macro_rules! objectives {
    ($($kind:ident($settings:ty) $name:literal $title:literal $arxiv:literal $about:literal)*) => {
        /// Choice of the invariance objective, with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind")]
        pub enum ObjectiveConfig {
            $(#[doc = $about] #[serde(rename = $name)] $kind($settings),)*
        }

        impl ObjectiveConfig {
            /// Table of all objectives.
            pub const LIST: &[Entry] = &[$(Entry { name: $name, title: $title, arxiv: $arxiv, about: $about }),*];

            /// Settings of the chosen objective.
            pub fn settings(&self) -> &dyn ObjectiveSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }

            /// Name of the objective in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }
        }
    };
}

objectives! {
    SimClr(SimClrConfig) "simclr" "SimCLR" "2002.05709" "contrastive loss between the views of an image and all others"
    Byol(ByolConfig) "byol" "BYOL" "2006.07733" "prediction of a target network's embedding of the other view"
    BarlowTwins(BarlowTwinsConfig) "barlow-twins" "Barlow Twins" "2103.03230"
        "cross-correlation of the views' features close to the identity matrix"
    VicReg(VicRegConfig) "vicreg" "VICReg" "2105.04906" "similar views, with variance and covariance regularization"
    SimSiam(SimSiamConfig) "simsiam" "SimSiam" "2011.10566"
        "prediction of the other view's embedding behind a stop-gradient"
    MocoV3(MocoV3Config) "moco-v3" "MoCo v3" "2104.02057" "contrastive loss against a target network's embeddings"
    None(NoneConfig) "none" "none" "" "no invariance term: equivariance modules alone"
}

impl ObjectiveConfig {
    /// One sentence for each invalid setting, the weight included; empty if all are valid.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.settings().problems();
        problems.extend(negative_weights("objective", &[("weight", self.settings().weight())]));
        problems
    }
}

/// One sentence for each weight of the part called `part` that is negative or not finite.
pub(crate) fn negative_weights(part: &str, weights: &[(&str, f64)]) -> Vec<String> {
    let bad = weights.iter().filter(|(_, value)| !(value.is_finite() && *value >= 0.0));
    bad.map(|(name, value)| format!("{part}.{name} is {value}; it must be 0 or more")).collect()
}

/// A sentence if the temperature of the part called `part` is not positive and finite; empty otherwise.
pub(crate) fn temperature_problems(part: &str, temperature: f64) -> Vec<String> {
    match temperature > 0.0 && temperature.is_finite() {
        true => Vec::new(),
        false => vec![format!("{part}.temperature is {temperature}; it must be above 0")],
    }
}
