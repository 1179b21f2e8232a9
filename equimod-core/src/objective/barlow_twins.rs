//! Barlow Twins (Zbontar et al., arXiv 2103.03230).

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::collective::Collective;
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::two_views::{FeatureSums, centered, over_all_rows, sum_over_features};
use crate::objective::{Objective, ObjectiveSettings, negative_weights, spread};
use crate::params::Scope;
use crate::step::{StepContext, Term, scalars};
use crate::{Error, Result};

/// ε added to the variance of each feature, as in PyTorch's batch norm.
const EPSILON: f64 = 1e-5;

/// Settings of [`BarlowTwins`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwinsConfig {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// λ, the weight of the redundancy reduction term (off-diagonal correlations) relative to the invariance term
    /// (diagonal). Published: 0.005.
    pub redundancy: f64,
    /// Factor of the whole loss. Published: 1 in the paper, 0.024 in the authors' code.
    pub scale: f64,
    /// Projection head, from the features to the embedding. Published: `8192-8192-8192`.
    pub projection_head: HeadSpec,
}

impl Default for BarlowTwinsConfig {
    fn default() -> Self {
        let projection_head = HeadSpec { widths: vec![8192; 3], ending: Ending::Plain };
        Self { weight: 1.0, redundancy: 0.005, scale: 1.0, projection_head }
    }
}

impl ObjectiveSettings for BarlowTwinsConfig {
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(BarlowTwins::new(self, context, scope)?))
    }

    fn problems(&self) -> Vec<String> {
        negative_weights("objective", &[("redundancy", self.redundancy), ("scale", self.scale)])
    }

    fn weight(&self) -> f64 {
        self.weight
    }
}

/// The Barlow Twins objective: [`barlow_twins`] over the projected embeddings of both views.
pub struct BarlowTwins {
    redundancy: f64,
    scale: f64,
    projection_head: Head,
}

impl BarlowTwins {
    /// Builds the projection head under `projection_head` in `scope`.
    ///
    /// # Errors
    ///
    /// If the features have width 0, or a parameter of that name already exists.
    pub fn new(config: &BarlowTwinsConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let projection_head = context.head(&config.projection_head, context.features, "projection_head", scope)?;
        Ok(Self { redundancy: config.redundancy, scale: config.scale, projection_head })
    }
}

impl Objective for BarlowTwins {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let zs = self.projection_head.forward(&step.view_features()?, step.mode)?;
        let Term { loss, mut metrics } = barlow_twins(&zs, self.redundancy, step.collective.as_ref())?;
        metrics.extend(spread(&zs, step.collective.as_ref())?);
        Ok(Term { loss: (loss * self.scale)?, metrics })
    }
}

/// Barlow Twins loss `Σ_i (1 − C_ii)² + λ·Σ_{i≠j} C_ij²` with `C = ẑ1ᵀ·ẑ2/N` (equations 1 and 2 of the paper), a
/// scalar. Its two sums, without λ, are the metrics `on_diagonal` and `off_diagonal`.
///
/// zs `[2n, width]` holds the embeddings of view 1, then those of view 2. ẑ is z standardized to mean 0 and (biased)
/// variance 1 for each feature. N is the number of rows of one view over all processes, which the statistics cover.
///
/// # Errors
///
/// If the number of rows is 0 or odd, a view has only one row over all processes, or a tensor operation fails.
pub fn barlow_twins(zs: &Tensor, redundancy: f64, collective: &dyn Collective) -> Result<Term> {
    over_all_rows(zs, collective, |z1, z2| {
        let rows = z1.dim(0)?;
        if rows < 2 {
            return Err(Error::fewer_than_two("Barlow Twins", "images", rows));
        }
        let (z1, z2) = (standardized(z1)?, standardized(z2)?);
        let FeatureSums { total, diagonal, others } = sum_over_features((&z1, &z2), rows as f64, redundancy, |c| {
            let missing = (1.0 - c)?;
            Ok((missing.sqr()?, (missing * -2.0)?))
        })?;
        let metrics = scalars([("on_diagonal", &diagonal), ("off_diagonal", &others)]);
        Ok(Term { loss: total, metrics })
    })
}

fn standardized(z: &Tensor) -> Result<Tensor> {
    let centered = centered(z)?;
    let std = (centered.sqr()?.mean_keepdim(0)? + EPSILON)?.sqrt()?;
    Ok(centered.broadcast_div(&std)?)
}
