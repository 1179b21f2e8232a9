//! SimSiam (Chen and He, arXiv 2011.10566).

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::collective::Collective;
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::predictor::{ViewPredictor, predictor_problems};
use crate::objective::two_views::{mean_cosine, swapped};
use crate::objective::{Objective, ObjectiveSettings, spread};
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Settings of [`SimSiam`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimSiamConfig {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// From features to the embedding. Published: `2048-2048-2048 bn-`.
    pub projection_head: HeadSpec,
    /// From the embedding of a view to the other's, which it ends as wide as. Published: `512-2048 bias`.
    pub predictor: HeadSpec,
}

impl Default for SimSiamConfig {
    fn default() -> Self {
        let projection_head = HeadSpec { widths: vec![2048; 3], ending: Ending::PlainBatchNorm };
        Self { weight: 1.0, projection_head, predictor: HeadSpec { widths: vec![512, 2048], ending: Ending::Bias } }
    }
}

impl ObjectiveSettings for SimSiamConfig {
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(SimSiam::new(self, context, scope)?))
    }

    fn problems(&self) -> Vec<String> {
        predictor_problems(&self.projection_head, &self.predictor)
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn has_predictor(&self) -> bool {
        true
    }
}

/// [`simsiam`] over embeddings and predictions of both views.
pub struct SimSiam {
    projection_head: Head,
    predictor: ViewPredictor,
}

impl SimSiam {
    /// Builds both heads under `scope`.
    pub fn new(config: &SimSiamConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let projection_head = context.head(&config.projection_head, context.features, "projection_head", scope)?;
        let predictor = ViewPredictor::new(&config.predictor, projection_head.outputs(), context, scope)?;
        Ok(Self { projection_head, predictor })
    }
}

impl Objective for SimSiam {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let zs = self.projection_head.forward(&step.view_features()?, step.mode)?;
        let ps = self.predictor.forward(&zs, step)?;
        Ok(Term { loss: simsiam(&ps, &zs, step.collective.as_ref())?, metrics: spread(&zs)? })
    }
}

/// `−(mean cos(p1, sg z2) + mean cos(p2, sg z1))/2` (equations 1 to 3 of the paper), a scalar in [−1, 1].
///
/// ps and zs `[2n, width]` are predictions and embeddings of view 1, then view 2; no gradient reaches zs (sg). The means
/// are over the rows of all processes.
pub fn simsiam(ps: &Tensor, zs: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    // Views have as many rows each: the mean of their means is that of all rows.
    Ok(mean_cosine(ps, &swapped(zs)?, collective)?.neg()?)
}
