//! Features in two halves, after SIE (Garrido et al., arXiv 2302.10283): the objective sees the first; in the second, a
//! hypernetwork made of the parameters leads from one view to the other.

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
    ObjectiveConfig, VicRegWeights, centred, covariances, over_all_rows, shortage, spread, swapped,
};
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Term, scalars};
use crate::{Error, Result};

/// Settings of [`Split`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// λ, the weight of this term in the loss. Published: 4.5 to the invariance term's 10.
    pub weight: Weight,
    /// The share of the features, from the first on, that the objective sees. Published: one half.
    pub invariant_share: f64,
    /// The weight of deviations below 1 beside that of squared distances. Published: 10 to 10.
    pub variance: f64,
    /// The weight of covariances. Published: 1 to 10.
    pub covariance: f64,
    /// g, from the other features to the embedding y. Default: `512-512-128`; the paper's are wider.
    pub projection_head: HeadSpec,
    /// From normalised parameters to what the predictor takes. Default: `none`.
    pub parameter_head: HeadSpec,
    /// W, from y of a view to the other's. Published: `hypernetwork`.
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
    /// How many of `features` the objective sees.
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
        let mut problems = VicRegWeights { invariance: 1.0, variance, covariance }.problems("split");
        if !(self.invariant_share > 0.0 && self.invariant_share < 1.0) {
            problems
                .push(format!("split's invariant_share is {}; give more than 0 and less than 1", self.invariant_share));
        }
        problems.extend(self.predictor.problems("split", &self.projection_head));
        problems
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(Split::new(self, context, scope)?)))
    }
}

/// `mse(ŷ, y) + μ·(v(y) + v(ŷ))/2 + ν·(c(y) + c(ŷ))` with `y = g(h_e)` of both views, `ŷ2 = W(p12)(y1)` and `ŷ1 = W(p21)(y2)`
/// (the paper goes one way), and v and c VICReg's variance and covariance terms.
pub struct Split {
    first: usize,
    variance: f64,
    covariance: f64,
    projection_head: Head,
    parameter_head: Head,
    predictor: Predictor,
}

impl Split {
    /// Builds the heads under `scope`.
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
            let (targets, predicted) = (centred(targets)?, centred(predicted)?);
            let variance = ((shortage(&targets)? + shortage(&predicted)?)? / 2.0)?;
            let covariance = (covariances(&targets)? + covariances(&predicted)?)?;
            let metrics = scalars([("distance", &distance), ("variance", &variance), ("covariance", &covariance)]);
            let loss = ((distance + (variance * of_variance)?)? + (covariance * of_covariance)?)?;
            Ok(Term { loss, metrics })
        })?;
        term.metrics.extend(measured);
        term.metrics.extend(spread(&y)?);
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
