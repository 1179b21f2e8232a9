//! Split features, after SIE (Garrido et al., arXiv 2302.10283): the objective sees the first, invariant part; in the
//! second, equivariant part, a hypernetwork driven by the parameters predicts one view from the other.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::equivariance::{
    EquivarianceModule, ModuleSettings, Needs, Predictor, PredictorSpec, Start, equivariance_metrics,
};
use crate::head::{Ending, Head, HeadSpec};
use crate::nn::Mode;
use crate::objective::{
    ObjectiveConfig, VicRegWeights, centered, covariances, over_all_rows, shortage, spread, swapped,
};
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Term, scalars};
use crate::{Error, Result};

/// Settings of [`Split`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// λ, the weight of this term in the loss. Published: 4.5, with an invariance term of weight 10.
    pub weight: Weight,
    /// Fraction of the features, counted from the first, that the objective sees. Published: one half.
    pub invariant_share: f64,
    /// Weight of the variance term relative to the squared distance. Published: 10 to 10.
    pub variance: f64,
    /// Weight of the covariance term relative to the squared distance. Published: 1 to 10.
    pub covariance: f64,
    /// g, the projection head from the equivariant features to the embedding y. Default: `512-512-128`; wider in the
    /// paper.
    pub projection_head: HeadSpec,
    /// Head from the normalized parameters to the predictor's input. Default: `none`, the parameters themselves.
    pub parameter_head: HeadSpec,
    /// W, the predictor from the embedding of one view to that of the other. Published: `hypernetwork`.
    pub predictor: PredictorSpec,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            weight: Weight::Fixed(0.45),
            invariant_share: 0.5,
            variance: 1.0,
            covariance: 0.1,
            projection_head: HeadSpec { widths: vec![512, 512, 128], ending: Ending::Plain },
            parameter_head: HeadSpec { widths: Vec::new(), ending: Ending::Plain },
            predictor: PredictorSpec::Hypernetwork(Vec::new()),
        }
    }
}

impl SplitConfig {
    /// Number of the `features` that the objective sees.
    ///
    /// # Errors
    ///
    /// If the invariant or the equivariant part would be empty.
    pub fn invariant(&self, features: usize) -> Result<usize> {
        let count = (features as f64 * self.invariant_share).round() as usize;
        match (1..features).contains(&count) {
            true => Ok(count),
            false => Err(Error::setting(
                "equivariance.split.invariant_share",
                self.invariant_share,
                format!("of {features} features, it leaves one side without features; give a share nearer to 0.5"),
            )),
        }
    }
}

impl ModuleSettings for SplitConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, _: &ObjectiveConfig) -> Vec<String> {
        let (variance, covariance) = (self.variance, self.covariance);
        let mut problems = VicRegWeights { invariance: 1.0, variance, covariance }.problems("equivariance.split");
        if !(self.invariant_share > 0.0 && self.invariant_share < 1.0) {
            problems.push(format!(
                "equivariance.split.invariant_share is {}; give more than 0 and less than 1",
                self.invariant_share
            ));
        }
        problems.extend(self.predictor.problems("split", &self.projection_head));
        problems
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(Split::new(self, context, scope)?)))
    }
}

/// The split module: `mse(ŷ, y) + μ·(v(y) + v(ŷ))/2 + ν·(c(y) + c(ŷ))`, with v and c the variance and covariance terms
/// of VICReg.
///
/// `y = g(h_e)` are the embeddings of the equivariant features of both views, `ŷ2 = W(p12)(y1)` and `ŷ1 = W(p21)(y2)`.
/// The paper predicts in one direction only.
pub struct Split {
    first: usize,
    variance: f64,
    covariance: f64,
    projection_head: Head,
    parameter_head: Head,
    predictor: Predictor,
}

impl Split {
    /// Builds the projection head, the parameter head and the predictor under `scope`.
    ///
    /// # Errors
    ///
    /// If a part of the features would be empty, the policy gives no parameters from view to view, the predictor's
    /// output is not as wide as the embedding, or a parameter of the same name already exists.
    pub fn new(config: &SplitConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let first = config.invariant(context.features)?;
        let parameters = context.pair_width()?;
        let projection_head =
            context.head(&config.projection_head, context.features - first, "projection_head", scope)?;
        let parameter_head = context.head(&config.parameter_head, parameters, "parameter_head", scope)?;
        let widths = (projection_head.outputs(), parameter_head.outputs());
        let predictor = Predictor::new(&config.predictor, widths, context.collective, &mut scope.scope("predictor"))?;
        let SplitConfig { variance, covariance, .. } = *config;
        Ok(Self { first, variance, covariance, projection_head, parameter_head, predictor })
    }

    fn embedding(&self, features: &Tensor, mode: Mode) -> Result<Tensor> {
        let equivariant = features.narrow(1, self.first, features.dim(1)? - self.first)?;
        self.projection_head.forward(&equivariant, mode)
    }

    fn predict_from(&self, start: &Tensor, params: &Tensor, mode: Mode) -> Result<Tensor> {
        self.predictor.forward(start, &self.parameter_head.forward(params, mode)?, mode)
    }
}

impl EquivarianceModule for Split {
    fn needs(&self) -> Needs {
        Needs { pairs: true, ..Needs::default() }
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let y = self.embedding(&step.view_features()?, step.mode)?;
        let targets = swapped(&y)?;
        let predicted = self.predict_from(&y, step.pairs()?, step.mode)?;
        let collective = step.collective.as_ref();
        let measured = equivariance_metrics(&y, &targets, &predicted, collective)?;
        let (of_variance, of_covariance) = (self.variance, self.covariance);
        let mut term = over_all_rows(&Tensor::cat(&[&targets, &predicted], 0)?, collective, |targets, predicted| {
            let rows = targets.dim(0)?;
            if rows < 2 {
                return Err(Error::fewer_than_two("split", "images", rows));
            }
            let distance = (predicted - targets)?.sqr()?.mean_all()?;
            let (targets, predicted) = (centered(targets)?, centered(predicted)?);
            let variance = ((shortage(&targets)? + shortage(&predicted)?)? / 2.0)?;
            let covariance = (covariances(&targets)? + covariances(&predicted)?)?;
            let metrics = scalars([("distance", &distance), ("variance", &variance), ("covariance", &covariance)]);
            let loss = ((distance + (variance * of_variance)?)? + (covariance * of_covariance)?)?;
            Ok(Term { loss, metrics })
        })?;
        term.metrics.extend(measured);
        term.metrics.extend(spread(&y, collective)?);
        Ok(term)
    }

    fn start(&self) -> Option<Start> {
        Some(Start::View)
    }

    fn embed(&self, features: &Tensor) -> Result<Option<Tensor>> {
        self.embedding(features, Mode::Eval).map(Some)
    }

    fn predict(&self, features: &Tensor, params: &Tensor) -> Result<Option<Tensor>> {
        let start = self.embedding(features, Mode::Eval)?;
        self.predict_from(&start, params, Mode::Eval).map(Some)
    }
}
