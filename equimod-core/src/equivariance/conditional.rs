//! Conditional BYOL: the objective's predictor receives the augmentation parameters from one view to the other, so that
//! the embeddings need not become invariant to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::equivariance::{EquivarianceModule, ModuleSettings};
use crate::head::{Ending, HeadSpec};
use crate::objective::ObjectiveConfig;
use crate::optim::Weight;
use crate::params::Scope;

/// Settings of the conditional predictor: the objective's predictor takes `cat[z, g_t(p12)]` instead of z (see
/// [`ViewPredictor`](crate::objective::ViewPredictor)). The module adds no term to the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionalConfig {
    /// g_t, the head on the normalized parameters from view to view. Default: `128 bn`, as in EquiMod.
    pub parameter_head: HeadSpec,
}

impl Default for ConditionalConfig {
    fn default() -> Self {
        Self { parameter_head: HeadSpec { widths: vec![128], ending: Ending::BatchNorm } }
    }
}

impl ModuleSettings for ConditionalConfig {
    fn weight(&self) -> Weight {
        Weight::Fixed(0.0)
    }

    fn problems(&self, objective: &ObjectiveConfig) -> Vec<String> {
        match objective.settings().has_predictor() {
            true => Vec::new(),
            false => vec!["conditional needs an objective with a predictor: byol, simsiam or moco-v3".into()],
        }
    }

    fn build(&self, _: &BuildContext, _: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(None)
    }
}
