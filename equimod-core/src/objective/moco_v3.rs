//! MoCo v3 (Chen, Xie and He, arXiv 2104.02057): InfoNCE against the target (momentum) network's embeddings of the same
//! batch, without a queue.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::collective::Collective;
use crate::ema::TargetConfig;
use crate::head::{Ending, Head, HeadSpec};
use crate::nn::hand_written;
use crate::objective::embeddings::spread;
use crate::objective::nt_xent::BLOCK;
use crate::objective::predictor::{ViewPredictor, predictor_problems};
use crate::objective::two_views::{swapped, views};
use crate::objective::{Objective, ObjectiveSettings, PROJECTION_HEAD, normalize_rows, temperature_problems};
use crate::ops::{self, Positives, RowTargets};
use crate::params::Scope;
use crate::step::{StepContext, Term};
use crate::{Error, Result};

/// Settings of [`MocoV3`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MocoV3Config {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// Softmax temperature T. Published: 0.2 in the paper; 1.0 for ResNet-50 in the authors' code.
    pub temperature: f64,
    /// Projection head from the features to the embedding, in both the online and the target network. Published for
    /// ResNet-50: `4096-256 bn-`.
    pub projection_head: HeadSpec,
    /// Predictor from the embedding to the target network's embedding of the other view. Published for ResNet-50:
    /// `4096-256`.
    pub predictor: HeadSpec,
    /// Settings of the target network. Published: momentum 0.99.
    pub target: TargetConfig,
}

impl Default for MocoV3Config {
    fn default() -> Self {
        Self {
            weight: 1.0,
            temperature: 0.2,
            projection_head: HeadSpec { widths: vec![4096, 256], ending: Ending::PlainBatchNorm },
            predictor: HeadSpec { widths: vec![4096, 256], ending: Ending::Plain },
            target: TargetConfig { momentum: 0.99, ..TargetConfig::default() },
        }
    }
}

impl ObjectiveSettings for MocoV3Config {
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(MocoV3::new(self, context, scope)?))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = predictor_problems(&self.projection_head, &self.predictor);
        problems.extend(temperature_problems("objective", self.temperature));
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

/// The MoCo v3 objective: [`contrast`] between each view's predictions and the target network's embeddings of the other
/// view.
pub struct MocoV3 {
    temperature: f64,
    projection_head: Head,
    predictor: ViewPredictor,
}

impl MocoV3 {
    /// Builds the projection head and the predictor under `scope`.
    ///
    /// # Errors
    ///
    /// If the predictor's output is not as wide as the embedding, or a parameter of the same name already exists.
    pub fn new(config: &MocoV3Config, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let projection_head = context.head(&config.projection_head, context.features, "projection_head", scope)?;
        let predictor = ViewPredictor::new(&config.predictor, projection_head.outputs(), context, scope)?;
        Ok(Self { temperature: config.temperature, projection_head, predictor })
    }
}

impl Objective for MocoV3 {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let embedded = self.projection_head.forward(&step.view_features()?, step.mode)?;
        let queries = views(&self.predictor.forward(&embedded, step)?)?;
        let keys = views(&swapped(step.target(PROJECTION_HEAD)?)?)?;
        let of_view = |i: usize| contrast(&queries[i], &keys[i], self.temperature, step.collective.as_ref());
        Ok(Term { loss: (of_view(0)? + of_view(1)?)?, metrics: spread(&embedded, step.collective.as_ref())? })
    }
}

/// InfoNCE loss `ctr(q, k) = 2T·mean_i(log Σ_j exp(q_i·k_j/T) − q_i·k_i/T)` (algorithm 1 of the paper), a scalar.
///
/// Queries qs and keys ks `[rows, width]` are normalized to length 1; row i of ks is the positive of row i of qs. j
/// runs over the keys of all processes and i over their queries. No gradient reaches ks.
///
/// # Errors
///
/// If there are no rows, qs and ks have different numbers of rows, or a tensor operation fails.
pub fn contrast(qs: &Tensor, ks: &Tensor, temperature: f64, collective: &dyn Collective) -> Result<Tensor> {
    let (rows, keys) = (qs.dim(0)?, ks.dim(0)?);
    if rows == 0 {
        return Err(Error::BatchSize { part: "a contrast", unit: "queries", least: 1, multiple_of: 1, found: rows });
    }
    if keys != rows {
        let (what, expected) = ("the keys of a contrast".into(), format!("{rows} rows, one for each query"));
        return Err(Error::ShapeMismatch { what, expected, found: format!("{keys} rows") });
    }
    let qs = normalize_rows(qs)?;
    let keys = collective.all_gather(&normalize_rows(&ks.detach())?.contiguous()?)?.contiguous()?;
    let (values, total) = (qs.detach().contiguous()?, rows * collective.size());
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for start in (0..rows).step_by(BLOCK) {
        let length = BLOCK.min(rows - start);
        let block = values.narrow(0, start, length)?.contiguous()?;
        let similarities = ops::matmul_nt(&(block / temperature)?, &keys)?;
        let (offset, positives) = (collective.rank() * rows, Positives::SameRow);
        let targets = RowTargets { first: start, local: rows, offset, positives, decoupled: false };
        let (of_rows, weights) = ops::cross_entropy_rows(similarities, &targets)?;
        losses.push(of_rows.sum_all()?.to_dtype(values.dtype())?);
        // The derivative of q·k/T with respect to q is k/T; times 2T, it is 2k.
        gradients.push((ops::matmul(&weights, &keys)? * (2.0 / total as f64))?);
    }
    let loss = collective.all_reduce_sum(&Tensor::stack(&losses, 0)?.sum_all()?)?;
    let loss = (loss * (2.0 * temperature / total as f64))?;
    let gradient = Tensor::cat(&gradients, 0)?;
    Ok(hand_written(&qs, &loss, move |g| gradient.broadcast_mul(g))?)
}
