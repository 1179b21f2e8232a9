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
    /// Projection head from the features to the embedding. Published: `2048-2048-2048 bn-`.
    pub projection_head: HeadSpec,
    /// Predictor from the embedding of one view to that of the other, whose width it must end in. Published:
    /// `512-2048 bias`.
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

/// The SimSiam objective: [`simsiam`] over the predictions and embeddings of both views.
pub struct SimSiam {
    projection_head: Head,
    predictor: ViewPredictor,
}

impl SimSiam {
    /// Builds the projection head and the predictor under `scope`.
    ///
    /// # Errors
    ///
    /// If the predictor's output is not as wide as the embedding, or a parameter of the same name already exists.
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
        Ok(Term { loss: simsiam(&ps, &zs, step.collective.as_ref())?, metrics: spread(&zs, step.collective.as_ref())? })
    }
}

/// SimSiam loss `−(mean cos(p1, sg z2) + mean cos(p2, sg z1))/2` (equations 1 to 3 of the paper), a scalar in [−1, 1].
///
/// ps and zs `[2n, width]` hold the predictions and the embeddings of view 1, then view 2. No gradient reaches zs
/// (stop-gradient, sg). The means are over the rows of all processes.
///
/// # Errors
///
/// If the number of rows is 0 or odd, the shapes differ, or a tensor operation fails.
pub fn simsiam(ps: &Tensor, zs: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    // Both views have the same number of rows, so the mean of their means is the mean over all rows.
    Ok(mean_cosine(ps, &swapped(zs)?, collective)?.neg()?)
}
