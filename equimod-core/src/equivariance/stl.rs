//! STL (Yu et al., arXiv 2501.08712): a transformation is encoded from the features of an image before and after it,
//! and this code is applied to another image.

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

/// Number of images that share a transformation.
const PAIR: usize = 2;

/// Settings of [`Stl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StlConfig {
    /// λ, the weight of this term in the loss, a factor of both of its parts. The paper weights the invariance
    /// objective with 0.2.
    pub weight: Weight,
    /// Weight of the contrastive loss between codes. Published: 1.
    pub transformation: f64,
    /// Weight of the contrastive loss between predictions and views. Published: 1.
    pub equivariance: f64,
    /// Features that are encoded and embedded. Published: `pooled`.
    pub tap: Tap,
    /// Temperature T of both contrastive losses. Default: 0.2.
    pub temperature: f64,
    /// ψ, the head from the features of both views to the code. Default: `512-128 bn-`.
    pub code_head: HeadSpec,
    /// Projection head from the features to the embedding in which views are predicted. Default: `2048-2048-128 bn-`.
    pub projection_head: HeadSpec,
    /// Predictor from the embedding of one view and a code to the embedding of the other view. Published:
    /// `hypernetwork`.
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
        let mut problems = temperature_problems("equivariance.stl", self.temperature);
        let weights = [("transformation", self.transformation), ("equivariance", self.equivariance)];
        problems.extend(negative_weights("equivariance.stl", &weights));
        problems.extend(self.predictor.problems("stl", &self.projection_head));
        problems
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(Stl::new(self, context, scope)?)))
    }
}

/// The STL module: NT-Xent between the codes `c = ψ(cat[h1, h2])` of images 2k and 2k + 1, which share their
/// augmentations, and NT-Xent between y2 and `u(y1, c')` with c' the code of the other image of the pair.
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
    /// Builds the code head, the projection head and the predictor under `scope`.
    ///
    /// # Errors
    ///
    /// If the backbone lacks the tapped stage, the predictor's output is not as wide as the embedding, or a parameter
    /// of the same name already exists.
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
        // [pairs, 2 images, width]
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
        metrics.extend(spread(&y, collective)?);
        let loss = ((transformation * self.transformation)? + (equivariance * self.equivariance)?)?;
        Ok(Term { loss, metrics })
    }

    fn tap(&self) -> Tap {
        self.tap
    }
}
