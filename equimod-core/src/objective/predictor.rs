//! Predictor of an objective: predicts the embedding of one view from that of the other.

use candle_core::Tensor;

use crate::build::BuildContext;
use crate::head::{Head, HeadSpec};
use crate::params::Scope;
use crate::step::StepContext;
use crate::{Error, Result};

/// Predictor of the other view's embedding, optionally conditioned on the augmentation parameters between the views.
pub struct ViewPredictor {
    head: Head,
    /// g_t, the head on the parameters from view to view; `None` for an unconditional predictor.
    condition: Option<Head>,
}

impl ViewPredictor {
    /// Builds the head for embeddings of width `width` under `predictor` in `scope` and, if the method has a condition,
    /// the head on the parameters under `condition`.
    ///
    /// # Errors
    ///
    /// If the output is not as wide as the embedding, the condition has no parameters from view to view to work on, or
    /// a parameter of the same name already exists.
    pub fn new(spec: &HeadSpec, width: usize, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let condition = context.condition.map(|spec| context.head(spec, context.pair_width()?, "condition", scope));
        let condition = condition.transpose()?;
        let inputs = width + condition.as_ref().map_or(0, Head::outputs);
        let head = context.head(spec, inputs, "predictor", scope)?;
        if head.outputs() != width {
            let outputs = head.outputs();
            let reason = format!("it gives {outputs} values for embeddings of {width}; end it in {width}");
            return Err(Error::setting("objective.predictor", format!("\"{spec}\""), reason));
        }
        Ok(Self { head, condition })
    }

    /// Embeddings zs `[2B, width]` of view 1, then view 2 → predictions `[2B, width]` of the other view's embedding:
    /// `q(z)`, or `q(cat[z, g_t(p)])` with p the parameters from the row's view to the other.
    ///
    /// # Errors
    ///
    /// If a conditional predictor's step has no parameters from view to view, or a tensor operation fails.
    pub fn forward(&self, zs: &Tensor, step: &StepContext) -> Result<Tensor> {
        match &self.condition {
            None => self.head.forward(zs, step.mode),
            Some(condition) => {
                let params = condition.forward(step.pairs()?, step.mode)?;
                self.head.forward(&Tensor::cat(&[zs, &params], 1)?, step.mode)
            }
        }
    }
}

/// A sentence if the predictor does not fit the projection head before it; empty otherwise.
pub fn predictor_problems(projection_head: &HeadSpec, predictor: &HeadSpec) -> Vec<String> {
    match (projection_head.widths.last(), predictor.widths.last()) {
        (Some(embedding), Some(prediction)) if embedding != prediction => vec![format!(
            "objective.predictor ends with {prediction} values, the projection head with {embedding}; give both \
             the same width"
        )],
        (None, Some(_)) => {
            vec!["objective.predictor needs a projection head that says how wide embeddings are".into()]
        }
        _ => Vec::new(),
    }
}
