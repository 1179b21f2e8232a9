//! STL (Yu et al., arXiv 2501.08712): a transformation is coded by the features of a picture before and after it, and the
//! code applied to another picture.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::equivariance::{EquivarianceModule, ModuleSettings, Needs, Predictor, PredictorSpec};
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::{ObjectiveConfig, negative_weights, nt_xent, spread, temperature_problems};
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Term, scalars};
use crate::tape::Tap;
use crate::{Error, Result};

/// Pictures that share a transformation.
const PAIR: usize = 2;

/// Settings of [`Stl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StlConfig {
    /// λ, the weight of this term in the loss: of both of its parts, beside an objective that the paper weighs with 0.2.
    pub weight: Weight,
    /// The weight of the contrast of codes. Published: 1.
    pub transformation: f64,
    /// The weight of the contrast of predictions. Published: 1.
    pub equivariance: f64,
    /// Which features are taken. Published: `pooled`.
    pub tap: Tap,
    /// T of both contrasts. Default: 0.2.
    pub temperature: f64,
    /// ψ, from the features of both views to the code. Default: `512-128 bn-`.
    pub code_head: HeadSpec,
    /// From features to the embedding in which views are predicted. Default: `2048-2048-128 bn-`.
    pub projection_head: HeadSpec,
    /// From the embedding of a view and a code to the other's. Published: `hypernetwork`.
    pub predictor: PredictorSpec,
}

impl Default for StlConfig {
    fn default() -> Self {
        let head = |widths: &[usize]| HeadSpec { widths: widths.to_vec(), ending: Ending::PlainBatchNorm };
        Self {
            weight: Weight::Fixed(1.0),
            transformation: 1.0,
            equivariance: 1.0,
            tap: Tap::Pooled,
            temperature: 0.2,
            code_head: head(&[512, 128]),
            projection_head: head(&[2048, 2048, 128]),
            predictor: PredictorSpec::Hypernetwork(Vec::new()),
        }
    }
}

impl ModuleSettings for StlConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, _: &ObjectiveConfig) -> Vec<String> {
        let mut problems = temperature_problems("stl", self.temperature);
        let weights = [("transformation", self.transformation), ("equivariance", self.equivariance)];
        problems.extend(negative_weights("stl", &weights));
        problems.extend(self.predictor.problems("stl", &self.projection_head));
        problems
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(Stl::new(self, context, scope)?)))
    }
}

/// Pictures 2k and 2k + 1 have the same augmentations. With codes `c = ψ(cat[h1, h2])`: NT-Xent between the codes of both,
/// and NT-Xent between y of view 2 and `u(y of view 1, c of the other picture)`.
pub struct Stl {
    transformation: f64,
    equivariance: f64,
    tap: Tap,
    temperature: f64,
    code_head: Head,
    projection_head: Head,
    predictor: Predictor,
}

impl Stl {
    /// Builds the heads under `scope`.
    pub fn new(config: &StlConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let width = context.width(config.tap)?;
        let code_head = context.head(&config.code_head, 2 * width, "code_head", scope)?;
        let projection_head = context.head(&config.projection_head, width, "projection_head", scope)?;
        let widths = (projection_head.outputs(), code_head.outputs());
        let predictor = Predictor::new(&config.predictor, widths, context.collective, &mut scope.scope("predictor"))?;
        let StlConfig { transformation, equivariance, tap, temperature, .. } = *config;
        Ok(Self { transformation, equivariance, tap, temperature, code_head, projection_head, predictor })
    }
}

impl EquivarianceModule for Stl {
    fn needs(&self) -> Needs {
        Needs { shared_by: Some(PAIR), ..Needs::default() }.at(self.tap)
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let images = step.images()?;
        if images % PAIR != 0 {
            return Err(Error::uneven("stl", "images", PAIR, images));
        }
        let collective = step.collective.as_ref();
        let features = step.views_of(&step.at(self.tap)?)?;
        let both = Tensor::cat(&[features.narrow(0, 0, images)?, features.narrow(0, images, images)?], 1)?;
        let codes = self.code_head.forward(&both, step.mode)?;
        // [pairs, picture of the pair, width]
        let paired = codes.reshape((images / PAIR, PAIR, codes.dim(1)?))?;
        let of_picture = |which: usize| -> Result<Tensor> { Ok(paired.narrow(1, which, 1)?.squeeze(1)?) };
        let (one, other) = (of_picture(0)?, of_picture(1)?);
        let transformation = nt_xent(&Tensor::cat(&[&one, &other], 0)?, self.temperature, collective)?;
        let exchanged = Tensor::stack(&[&other, &one], 1)?.reshape(codes.shape())?;
        let y = self.projection_head.forward(&features, step.mode)?;
        let (y1, y2) = (y.narrow(0, 0, images)?, y.narrow(0, images, images)?);
        let predicted = self.predictor.forward(&y1, &exchanged, step.mode)?;
        let equivariance = nt_xent(&Tensor::cat(&[&y2, &predicted], 0)?, self.temperature, collective)?;
        let mut metrics = scalars([("transformation_loss", &transformation), ("equivariance_loss", &equivariance)]);
        metrics.extend(spread(&y)?);
        let loss = ((transformation * self.transformation)? + (equivariance * self.equivariance)?)?;
        Ok(Term { loss, metrics })
    }

    fn tap(&self) -> Tap {
        self.tap
    }
}
