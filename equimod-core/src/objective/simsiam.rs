//! SimSiam (Chen and He, arXiv 2011.10566).

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::collective::{Collective, SharedCollective};
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::two_views::{over_all_rows, views};
use crate::objective::{Objective, normalise_rows};
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Settings of [`SimSiam`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl SimSiamConfig {
    pub(super) fn validate(&self) -> Vec<String> {
        let (embedding, prediction) = (self.projection_head.widths.last(), self.predictor.widths.last());
        match (embedding, prediction) {
            (Some(embedding), Some(prediction)) if embedding != prediction => vec![format!(
                "the objective's predictor ends with {prediction} values, the projection head with {embedding}; give \
                 both the same width"
            )],
            (None, Some(_)) => {
                vec!["the objective's predictor needs a projection head that says how wide embeddings are".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// [`simsiam`] over embeddings and predictions of both views.
pub struct SimSiam {
    projection_head: Head,
    predictor: Head,
}

impl SimSiam {
    /// Builds both heads for features of width `features`, under `scope`.
    pub fn new(
        config: &SimSiamConfig,
        features: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Self> {
        let projection_head =
            Head::new(&config.projection_head, features, collective, &mut scope.scope("projection_head"))?;
        let width = projection_head.outputs();
        let predictor = Head::new(&config.predictor, width, collective, &mut scope.scope("predictor"))?;
        Ok(Self { projection_head, predictor })
    }
}

impl Objective for SimSiam {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let zs = self.projection_head.forward(&step.view_features()?, step.mode)?;
        let ps = self.predictor.forward(&zs, step.mode)?;
        let loss = simsiam(&ps, &zs, step.collective.as_ref())?;
        Ok(Term { loss, metrics: Vec::new() })
    }
}

/// `−(mean cos(p1, sg z2) + mean cos(p2, sg z1))/2` (equations 1 to 3 of the paper), a scalar in [−1, 1].
///
/// ps and zs `[2n, width]` are predictions and embeddings of view 1, then view 2; no gradient reaches zs (sg). The means
/// are over the rows of all processes.
pub fn simsiam(ps: &Tensor, zs: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    let [z1, z2] = views(&normalise_rows(&zs.detach())?)?;
    let targets = Tensor::cat(&[z2, z1], 0)?;
    // Of every row −cos, whose mean over all rows is the loss.
    let cosines = (normalise_rows(ps)? * targets)?.sum_keepdim(1)?;
    let mean = |view1: &Tensor, view2: &Tensor| {
        let loss = ((view1.mean_all()? + view2.mean_all()?)? / -2.0)?;
        Ok(Term { loss, metrics: Vec::new() })
    };
    Ok(over_all_rows(&cosines, collective, mean)?.loss)
}
