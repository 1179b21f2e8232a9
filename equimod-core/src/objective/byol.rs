//! BYOL (Grill et al., arXiv 2006.07733).

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::collective::Collective;
use crate::ema::TargetConfig;
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::embeddings::spread;
use crate::objective::predictor::{ViewPredictor, predictor_problems};
use crate::objective::two_views::{mean_cosine, swapped};
use crate::objective::{Objective, ObjectiveSettings, PROJECTION_HEAD};
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Settings of [`Byol`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ByolConfig {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// g_inv, the projection head from the features to the embedding z, in both the online and the target network.
    /// Published: `4096-256 bias`.
    pub projection_head: HeadSpec,
    /// q, the predictor from z to the target network's embedding of the other view. Published: `4096-256 bias`.
    pub predictor: HeadSpec,
    /// Settings of the target network.
    pub target: TargetConfig,
}

impl Default for ByolConfig {
    fn default() -> Self {
        let head = HeadSpec { widths: vec![4096, 256], ending: Ending::Bias };
        Self { weight: 1.0, projection_head: head.clone(), predictor: head, target: TargetConfig::default() }
    }
}

impl ObjectiveSettings for ByolConfig {
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Byol::new(self, context, scope)?))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = predictor_problems(&self.projection_head, &self.predictor);
        problems.extend(self.target.validate());
        problems
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn has_predictor(&self) -> bool {
        true
    }

    fn target(&self) -> Option<(TargetConfig, &HeadSpec)> {
        Some((self.target, &self.projection_head))
    }
}

/// The BYOL objective: [`byol`] over the predictions and the target network's embeddings of both views.
pub struct Byol {
    projection_head: Head,
    predictor: ViewPredictor,
}

/// Online embeddings and predictions of a step, `[2B, width]` each, view 1 before view 2.
pub struct ByolEmbeddings {
    /// Embeddings z.
    pub embedded: Tensor,
    /// Predictions q(z).
    pub predicted: Tensor,
}

impl Byol {
    /// Builds the projection head and the predictor under `scope`.
    ///
    /// # Errors
    ///
    /// If the predictor's output is not as wide as the embedding, or a parameter of the same name already exists.
    pub fn new(config: &ByolConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let projection_head = context.head(&config.projection_head, context.features, "projection_head", scope)?;
        let predictor = ViewPredictor::new(&config.predictor, projection_head.outputs(), context, scope)?;
        Ok(Self { projection_head, predictor })
    }

    /// Online embeddings and predictions of a step, `[2B, width]` each.
    ///
    /// # Errors
    ///
    /// If the step lacks the parameters from view to view that a conditional predictor needs, or a tensor operation
    /// fails.
    pub fn embeddings(&self, step: &StepContext) -> Result<ByolEmbeddings> {
        let embedded = self.projection_head.forward(&step.view_features()?, step.mode)?;
        let predicted = self.predictor.forward(&embedded, step)?;
        Ok(ByolEmbeddings { embedded, predicted })
    }
}

impl Objective for Byol {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let ByolEmbeddings { embedded, predicted } = self.embeddings(step)?;
        let targets = swapped(step.target(PROJECTION_HEAD)?)?;
        Ok(Term {
            loss: byol(&predicted, &targets, step.collective.as_ref())?,
            metrics: spread(&embedded, step.collective.as_ref())?,
        })
    }
}

/// BYOL loss `2·mean_i(2 − 2·cos(q_i, m_i))`, a scalar in [0, 8]: equation 2 of the paper, symmetrized over both views.
///
/// qs `[rows, width]` holds predictions, and ms `[rows, width]` the target network's embeddings of the other view in
/// the same rows. No gradient reaches ms. The mean is over the rows of all processes.
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
pub fn byol(qs: &Tensor, ms: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    Ok((4.0 - (mean_cosine(qs, ms, collective)? * 4.0)?)?)
}
