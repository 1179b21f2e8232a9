//! VICReg (Bardes et al., arXiv 2105.04906).

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::collective::Collective;
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::two_views::{centered, over_all_rows, sum_over_features};
use crate::objective::{Objective, ObjectiveSettings, negative_weights, spread};
use crate::params::Scope;
use crate::step::{StepContext, Term, scalars};
use crate::{Error, Result};

/// ε under the root of the standard deviation.
const EPSILON: f64 = 1e-4;

/// Settings of [`VicReg`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VicRegConfig {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// λ, the weight of the invariance term: the mean squared distance between the views. Published: 25.
    pub invariance: f64,
    /// μ, the weight of the variance term: the hinge on standard deviations below 1, averaged over the views.
    /// Published: 25.
    pub variance: f64,
    /// ν, the weight of the covariance term, summed over the views. Published: 1.
    pub covariance: f64,
    /// Projection head (expander) from the features to the embedding. Published: `8192-8192-8192`.
    pub projection_head: HeadSpec,
}

impl Default for VicRegConfig {
    fn default() -> Self {
        let projection_head = HeadSpec { widths: vec![8192; 3], ending: Ending::Plain };
        Self { weight: 1.0, invariance: 25.0, variance: 25.0, covariance: 1.0, projection_head }
    }
}

impl ObjectiveSettings for VicRegConfig {
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(VicReg::new(self, context, scope)?))
    }

    fn problems(&self) -> Vec<String> {
        self.weights().problems("objective")
    }

    fn weight(&self) -> f64 {
        self.weight
    }
}

impl VicRegConfig {
    fn weights(&self) -> VicRegWeights {
        VicRegWeights { invariance: self.invariance, variance: self.variance, covariance: self.covariance }
    }
}

/// Weights of the terms of [`vicreg`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VicRegWeights {
    /// λ, of the invariance term.
    pub invariance: f64,
    /// μ, of the variance term.
    pub variance: f64,
    /// ν, of the covariance term.
    pub covariance: f64,
}

impl VicRegWeights {
    /// One sentence for each weight of the part called `part` that is negative or not finite.
    pub(crate) fn problems(self, part: &str) -> Vec<String> {
        let Self { invariance, variance, covariance } = self;
        negative_weights(part, &[("invariance", invariance), ("variance", variance), ("covariance", covariance)])
    }
}

/// The VICReg objective: [`vicreg`] over the embeddings of both views.
pub struct VicReg {
    weights: VicRegWeights,
    projection_head: Head,
}

impl VicReg {
    /// Builds the projection head under `projection_head` in `scope`.
    ///
    /// # Errors
    ///
    /// If the features have width 0, or a parameter of that name already exists.
    pub fn new(config: &VicRegConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let projection_head = context.head(&config.projection_head, context.features, "projection_head", scope)?;
        Ok(Self { weights: config.weights(), projection_head })
    }
}

impl Objective for VicReg {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let zs = self.projection_head.forward(&step.view_features()?, step.mode)?;
        let mut term = vicreg(&zs, self.weights, step.collective.as_ref())?;
        term.metrics.extend(spread(&zs, step.collective.as_ref())?);
        Ok(term)
    }
}

/// VICReg loss `λ·mse(z1, z2) + μ·(v(z1) + v(z2))/2 + ν·(c(z1) + c(z2))`, a scalar: equation 6 of the paper, with the
/// variance term halved as in the authors' code. The three terms, without their weights, are the metrics `invariance`,
/// `variance` and `covariance`.
///
/// `v(z) = mean_d max(0, 1 − √(Var z_d + 1e-4))` and `c(z) = Σ_{i≠j} Cov(z)_ij²/D`, both unbiased (divided by N − 1).
/// zs `[2n, D]` holds the embeddings of view 1, then view 2. N is the number of rows of one view over all processes.
///
/// # Errors
///
/// If the number of rows is 0 or odd, a view has only one row over all processes, or a tensor operation fails.
pub fn vicreg(zs: &Tensor, weights: VicRegWeights, collective: &dyn Collective) -> Result<Term> {
    over_all_rows(zs, collective, |z1, z2| {
        let rows = z1.dim(0)?;
        if rows < 2 {
            return Err(Error::fewer_than_two("VICReg", "images", rows));
        }
        let invariance = (z1 - z2)?.sqr()?.mean_all()?;
        let (z1, z2) = (centered(z1)?, centered(z2)?);
        let variance = ((shortage(&z1)? + shortage(&z2)?)? / 2.0)?;
        let covariance = (covariances(&z1)? + covariances(&z2)?)?;
        let metrics = scalars([("invariance", &invariance), ("variance", &variance), ("covariance", &covariance)]);
        let VicRegWeights { invariance: of_invariance, variance: of_variance, covariance: of_covariance } = weights;
        let loss = (((invariance * of_invariance)? + (variance * of_variance)?)? + (covariance * of_covariance)?)?;
        Ok(Term { loss, metrics })
    })
}

/// Variance term v of centered rows `[rows, width]`, a scalar: `mean_d max(0, 1 − √(Var z_d + 1e-4))`.
pub(crate) fn shortage(z: &Tensor) -> Result<Tensor> {
    let variance = (z.sqr()?.sum(0)? / (z.dim(0)? - 1) as f64)?;
    let std = (variance + EPSILON)?.sqrt()?;
    Ok((1.0 - std)?.relu()?.mean_all()?)
}

/// Covariance term c of centered rows `[rows, width]`, a scalar: `Σ_{i≠j} Cov(z)_ij²/D`.
pub(crate) fn covariances(z: &Tensor) -> Result<Tensor> {
    let (rows, width) = z.dims2()?;
    let nothing = |diagonal: &Tensor| Ok((diagonal.zeros_like()?, diagonal.zeros_like()?));
    Ok(sum_over_features((z, z), (rows - 1) as f64, 1.0 / width as f64, nothing)?.total)
}
