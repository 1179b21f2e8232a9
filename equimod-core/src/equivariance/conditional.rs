//! Conditional BYOL: the predictor of the objective is told the parameters from one view to the other, so that what it
//! predicts from need not forget them (method, section 9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::equivariance::{EquivarianceModule, ModuleSettings};
use crate::head::{Ending, HeadSpec};
use crate::objective::ObjectiveConfig;
use crate::optim::Weight;
use crate::params::Scope;

/// The objective's predictor takes `cat[z, g_t(p12)]` in place of z (see
/// [`ViewPredictor`](crate::objective::ViewPredictor)); there is no term of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionalConfig {
    /// g_t, from the normalised parameters from view to view to their embedding. Default: `128 bn`, as EquiMod's.
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
