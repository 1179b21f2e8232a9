//! EquiMod (Devillers & Lefort, arXiv 2211.01244): the embedding of a view is predicted from the embedding of the
//! clean picture and the parameters of the augmentation.

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

/// How predictions are compared with the embeddings of views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EquiModLoss {
    /// `NTXent(cat[yt, ŷt], T)` (published).
    #[default]
    NtXent,
    /// `−mean cos(ŷt, sg(yt))`.
    Cosine,
    /// `−mean cos(ŷt, mt)` with the target network's embeddings m of the views.
    CosineTarget,
    /// VICReg's loss (arXiv 2105.04906) on ŷt and yt.
    #[serde(rename = "vicreg")]
    VicReg,
}

/// Settings of [`EquiMod`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EquiModConfig {
    /// λ, the weight of this term in the loss; 0 gives the baseline with the same batches. Published: 1.
    pub weight: Weight,
    /// From where views are predicted. Published: `clean`.
    pub start: Start,
    /// Which features are embedded. Published: `pooled`.
    pub tap: Tap,
    /// How predictions are compared with embeddings. Published: `nt-xent`.
    pub loss: EquiModLoss,
    /// T of NT-Xent between embeddings and predictions. Published: 0.2.
    pub temperature: f64,
    /// What a row is contrasted with in NT-Xent. Published: `all`.
    pub negatives: Negatives,
    /// The weight of VICReg's invariance term, under that loss. VICReg's: 25.
    pub invariance: f64,
    /// That of its variance term. VICReg's: 25.
    pub variance: f64,
    /// That of its covariance term. VICReg's: 1.
    pub covariance: f64,
    /// g_eq, from features to the embedding y. Published: `2048-2048-128 bn-`.
    pub projection_head: HeadSpec,
    /// g_t, from normalised parameters to their embedding p'. Published: `128 bn`.
    pub parameter_head: HeadSpec,
    /// u, from y and p' to the predicted embedding, as wide as y. Published: `128 bn-`, one linear layer.
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

/// Where the projection head lies.
const PROJECTION_HEAD: &str = "equivariance.equimod.projection_head";

impl ModuleSettings for EquiModConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, objective: &ObjectiveConfig) -> Vec<String> {
        let mut problems = temperature_problems("equimod", self.temperature);
        let Self { invariance, variance, covariance, .. } = *self;
        problems.extend(VicRegWeights { invariance, variance, covariance }.problems("equimod"));
        problems.extend(self.predictor.problems("equimod", &self.projection_head));
        if self.loss == EquiModLoss::CosineTarget {
            if objective.settings().target().is_none() {
                problems.push(
                    "equimod's loss \"cosine-target\" needs an objective with a target network, byol or moco-v3".into(),
                );
            }
            if self.tap != Tap::Pooled {
                problems.push("equimod's loss \"cosine-target\" needs tap = \"pooled\"".into());
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

/// With y0, yt the embeddings of clean pictures and views and p' = g_t(p): `ŷt = u(y0, p')`, by default `u(cat[y0, p'])`, and
/// `L_eq = NTXent(cat[yt, ŷt], T)`; no gradient is stopped, but for that of the views in the cosine losses. Started from views, y0 is the embedding of the other view and
/// p leads from it to this one.
pub struct EquiMod {
    config: EquiModConfig,
    projection_head: Head,
    parameter_head: Head,
    predictor: Predictor,
}

/// The embeddings of a step, `[2B, width]` each, in the same order: from clean pictures view 1 before view 2, from views
/// view 2 before view 1.
pub struct Embeddings {
    /// Of what each prediction starts from: the clean picture, or the other view.
    pub start: Tensor,
    /// Of the views.
    pub views: Tensor,
    /// Predicted for the views.
    pub predicted: Tensor,
}

impl EquiMod {
    /// Builds the heads under `scope`.
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

    /// The embeddings and predictions of a step.
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
        metrics.extend(spread(views)?);
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
