//! EquiMod (Devillers & Lefort, arXiv 2211.01244): prediction of a view's embedding from the embedding of the original
//! (un-augmented) image and the parameters of the augmentation.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::ema::TargetHead;
use crate::equivariance::{
    EquivarianceModule, ModuleSettings, Needs, Predictor, PredictorSpec, Start, equivariance_metrics,
};
use crate::head::{Ending, Head, HeadSpec};
use crate::nn::Mode;
use crate::objective::{
    Negatives, ObjectiveConfig, VicRegWeights, mean_cosine, nt_xent_with, spread, swapped, temperature_problems, vicreg,
};
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Term};
use crate::tape::Tap;

/// Loss between the predicted embeddings and the embeddings of the views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EquiModLoss {
    /// `NTXent(cat[yt, ŷt], T)` (published).
    #[default]
    NtXent,
    /// `−mean cos(ŷt, sg(yt))`, with a stop-gradient on the views' embeddings.
    Cosine,
    /// `−mean cos(ŷt, mt)`, with the target network's embeddings m of the views.
    CosineTarget,
    /// VICReg's loss (arXiv 2105.04906) between ŷt and yt.
    #[serde(rename = "vicreg")]
    VicReg,
}

/// Settings of [`EquiMod`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EquiModConfig {
    /// λ, the weight of this term in the loss; 0 gives the baseline, trained on the same batches. Published: 1.
    pub weight: Weight,
    /// Starting point of the prediction. Published: `clean`, the original image.
    pub start: Start,
    /// Features that are embedded. Published: `pooled`.
    pub tap: Tap,
    /// Loss between predictions and embeddings. Published: `nt-xent`.
    pub loss: EquiModLoss,
    /// Temperature T of NT-Xent between embeddings and predictions. Published: 0.2.
    pub temperature: f64,
    /// Negatives of each row in NT-Xent. Published: `all`.
    pub negatives: Negatives,
    /// Weight of the invariance term of the loss `vicreg`. Published for VICReg: 25.
    pub invariance: f64,
    /// Weight of the variance term of the loss `vicreg`. Published for VICReg: 25.
    pub variance: f64,
    /// Weight of the covariance term of the loss `vicreg`. Published for VICReg: 1.
    pub covariance: f64,
    /// g_eq, the projection head from the features to the embedding y. Published: `2048-2048-128 bn-`.
    pub projection_head: HeadSpec,
    /// g_t, the head from the normalized parameters to their embedding p'. Published: `128 bn`.
    pub parameter_head: HeadSpec,
    /// u, the predictor from y and p' to the predicted embedding, whose width is that of y. Published: `128 bn-`, one
    /// linear layer.
    pub predictor: PredictorSpec,
}

impl Default for EquiModConfig {
    fn default() -> Self {
        let head = |widths: &[usize], ending| HeadSpec { widths: widths.to_vec(), ending };
        Self {
            weight: Weight::Fixed(1.0),
            start: Start::Clean,
            tap: Tap::Pooled,
            loss: EquiModLoss::NtXent,
            temperature: 0.2,
            negatives: Negatives::All,
            invariance: 25.0,
            variance: 25.0,
            covariance: 1.0,
            projection_head: head(&[2048, 2048, 128], Ending::PlainBatchNorm),
            parameter_head: head(&[128], Ending::BatchNorm),
            predictor: PredictorSpec::Head(head(&[128], Ending::PlainBatchNorm)),
        }
    }
}

/// Scope of the projection head.
const PROJECTION_HEAD: &str = "equivariance.equimod.projection_head";

impl ModuleSettings for EquiModConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, objective: &ObjectiveConfig) -> Vec<String> {
        let mut problems = temperature_problems("equivariance.equimod", self.temperature);
        let Self { invariance, variance, covariance, .. } = *self;
        problems.extend(VicRegWeights { invariance, variance, covariance }.problems("equivariance.equimod"));
        problems.extend(self.predictor.problems("equimod", &self.projection_head));
        if self.loss == EquiModLoss::CosineTarget {
            if objective.settings().target().is_none() {
                problems.push(
                    "equivariance.equimod.loss \"cosine-target\" needs an objective with a target network, byol or moco-v3".into(),
                );
            }
            if self.tap != Tap::Pooled {
                problems.push(
                    "equivariance.equimod.loss \"cosine-target\" needs equivariance.equimod.tap = \"pooled\"".into(),
                );
            }
        }
        problems
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(EquiMod::new(self, context, scope)?)))
    }

    fn target_head(&self, features: usize) -> Option<TargetHead<'_>> {
        let wanted = self.loss == EquiModLoss::CosineTarget;
        wanted.then_some(TargetHead { name: PROJECTION_HEAD, spec: &self.projection_head, features })
    }
}

/// The EquiMod module: `ŷt = u(y0, p')`, by default `u(cat[y0, p'])`, and by default `L_eq = NTXent(cat[yt, ŷt], T)`.
/// y0 and yt are the embeddings of the original images and of the views, and p' = g_t(p).
///
/// Gradients flow through predictions and embeddings; only the cosine losses stop the gradient of the views'
/// embeddings. With [`Start::View`], y0 is the embedding of the other view, and p the parameters from that view to this
/// one.
pub struct EquiMod {
    config: EquiModConfig,
    projection_head: Head,
    parameter_head: Head,
    predictor: Predictor,
}

/// Embeddings of a step, `[2B, width]` each, in the order of the predicted views: view 1 before view 2 with
/// [`Start::Clean`], view 2 before view 1 with [`Start::View`].
pub struct Embeddings {
    /// Embeddings from which the prediction starts: those of the original images, or of the other views.
    pub start: Tensor,
    /// Embeddings of the views.
    pub views: Tensor,
    /// Predicted embeddings of the views.
    pub predicted: Tensor,
}

impl EquiMod {
    /// Builds the projection head, the parameter head and the predictor under `scope`.
    ///
    /// # Errors
    ///
    /// If the policy gives no parameters, the backbone lacks the tapped stage, the predictor's output is not as wide as
    /// the embedding, or a parameter of the same name already exists.
    pub fn new(config: &EquiModConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let parameters = match config.start {
            Start::Clean => context.view_width()?,
            Start::View => context.pair_width()?,
        };
        let features = context.width(config.tap)?;
        let projection_head = context.head(&config.projection_head, features, "projection_head", scope)?;
        let parameter_head = context.head(&config.parameter_head, parameters, "parameter_head", scope)?;
        let widths = (projection_head.outputs(), parameter_head.outputs());
        let predictor = Predictor::new(&config.predictor, widths, context.collective, &mut scope.scope("predictor"))?;
        Ok(Self { config: config.clone(), projection_head, parameter_head, predictor })
    }

    /// Embeddings and predictions of a step, `[2B, width]` each.
    ///
    /// # Errors
    ///
    /// If the step lacks the tapped features or the parameters, or a tensor operation fails.
    pub fn embeddings(&self, step: &StepContext) -> Result<Embeddings> {
        let features = step.at(self.config.tap)?;
        match self.config.start {
            Start::Clean => {
                let (images, params) = (step.clean_images()?, step.params()?);
                let y = self.projection_head.forward(&features, step.mode)?;
                let y0 = y.narrow(0, 0, images)?;
                let start = Tensor::cat(&[&y0, &y0], 0)?;
                let predicted = self.predict_from(&start, params, step.mode)?;
                Ok(Embeddings { start, views: step.views_of(&y)?, predicted })
            }
            Start::View => {
                let start = self.projection_head.forward(&step.views_of(&features)?, step.mode)?;
                let predicted = self.predict_from(&start, step.pairs()?, step.mode)?;
                Ok(Embeddings { views: swapped(&start)?, start, predicted })
            }
        }
    }

    fn predict_from(&self, start: &Tensor, params: &Tensor, mode: Mode) -> Result<Tensor> {
        let params = self.parameter_head.forward(params, mode)?;
        self.predictor.forward(start, &params, mode)
    }

    fn loss(&self, Embeddings { views, predicted, .. }: &Embeddings, step: &StepContext) -> Result<Term> {
        let EquiModConfig { temperature, negatives, invariance, variance, covariance, .. } = self.config;
        let collective = step.collective.as_ref();
        let loss = match self.config.loss {
            EquiModLoss::NtXent => {
                nt_xent_with(&Tensor::cat(&[views, predicted], 0)?, temperature, negatives, collective)?
            }
            EquiModLoss::Cosine => mean_cosine(predicted, views, collective)?.neg()?,
            EquiModLoss::CosineTarget => {
                let targets = step.target(PROJECTION_HEAD)?;
                match self.config.start {
                    Start::Clean => mean_cosine(predicted, targets, collective)?.neg()?,
                    Start::View => mean_cosine(predicted, &swapped(targets)?, collective)?.neg()?,
                }
            }
            EquiModLoss::VicReg => {
                let weights = VicRegWeights { invariance, variance, covariance };
                return vicreg(&Tensor::cat(&[predicted, views], 0)?, weights, collective);
            }
        };
        Ok(Term { loss, metrics: Vec::new() })
    }
}

impl EquivarianceModule for EquiMod {
    fn needs(&self) -> Needs {
        match self.config.start {
            Start::Clean => Needs { clean_view: true, parameters: true, ..Needs::default() },
            Start::View => Needs { pairs: true, ..Needs::default() },
        }
        .at(self.config.tap)
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let embeddings = self.embeddings(step)?;
        let Term { loss, mut metrics } = self.loss(&embeddings, step)?;
        let Embeddings { start, views, predicted } = &embeddings;
        metrics.extend(equivariance_metrics(start, views, predicted, step.collective.as_ref())?);
        metrics.extend(spread(views, step.collective.as_ref())?);
        Ok(Term { loss, metrics })
    }

    fn start(&self) -> Option<Start> {
        Some(self.config.start)
    }

    fn tap(&self) -> Tap {
        self.config.tap
    }

    fn embed(&self, features: &Tensor) -> Result<Option<Tensor>> {
        self.projection_head.forward(features, Mode::Eval).map(Some)
    }

    fn predict(&self, features: &Tensor, params: &Tensor) -> Result<Option<Tensor>> {
        let start = self.projection_head.forward(features, Mode::Eval)?;
        self.predict_from(&start, params, Mode::Eval).map(Some)
    }
}
