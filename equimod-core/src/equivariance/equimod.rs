//! EquiMod (Devillers & Lefort, arXiv 2211.01244): the embedding of a view is predicted from the embedding of the
//! clean picture and the parameters of the augmentation.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::collective::SharedCollective;
use crate::equivariance::{Equivariance, EquivarianceModule, Needs, Predictor, PredictorSpec, equivariance_rows};
use crate::head::{Ending, Head, HeadSpec};
use crate::nn::Mode;
use crate::objective::{Negatives, nt_xent_with};
use crate::params::Scope;
use crate::step::{StepContext, Term};
use crate::{Error, Result};

/// Settings of [`EquiMod`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EquiModConfig {
    /// λ, the weight of this term in the loss; 0 gives the baseline with the same batches. Published: 1.
    pub weight: f64,
    /// T of NT-Xent between embeddings and predictions. Published: 0.2.
    pub temperature: f64,
    /// What a row is contrasted with. Published: `all`.
    pub negatives: Negatives,
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
            weight: 1.0,
            temperature: 0.2,
            negatives: Negatives::All,
            projection_head: head(&[2048, 2048, 128], Ending::PlainBatchNorm),
            parameter_head: head(&[128], Ending::BatchNorm),
            predictor: PredictorSpec::Head(head(&[128], Ending::PlainBatchNorm)),
        }
    }
}

impl EquiModConfig {
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            problems.push(format!("equimod's temperature is {}; it must be above 0", self.temperature));
        }
        if let Some(&y) = self.projection_head.widths.last()
            && !self.predictor.fits(y)
        {
            let predictor = self.predictor.to_string();
            problems.push(format!(
                "equimod's predictor is {predictor:?} but its projection head ends in {y}; give the predictor the same \
                 last width"
            ));
        }
        problems
    }
}

/// With y0, yt the embeddings of clean pictures and views and p' = g_t(p): `ŷt = u(y0, p')`, by default `u(cat[y0, p'])`, and
/// `L_eq = NTXent(cat[yt, ŷt], T)`. No gradient is stopped.
pub struct EquiMod {
    temperature: f64,
    negatives: Negatives,
    projection_head: Head,
    parameter_head: Head,
    predictor: Predictor,
}

/// The embeddings of a step, `[2B, width]` each, view 1 before view 2.
pub struct Embeddings {
    /// Of the clean picture of each view.
    pub clean: Tensor,
    /// Of the views.
    pub views: Tensor,
    /// Predicted for the views.
    pub predicted: Tensor,
}

impl EquiMod {
    /// Builds the heads for features of width `features` and parameter vectors of width `parameters`, under `scope`.
    pub fn new(
        config: &EquiModConfig,
        features: usize,
        parameters: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Self> {
        let mut head = |spec, inputs, name: &str| Head::new(spec, inputs, collective, &mut scope.scope(name));
        let projection_head = head(&config.projection_head, features, "projection_head")?;
        let parameter_head = head(&config.parameter_head, parameters, "parameter_head")?;
        let widths = (projection_head.outputs(), parameter_head.outputs());
        let predictor = Predictor::new(&config.predictor, widths, collective, &mut scope.scope("predictor"))?;
        let EquiModConfig { temperature, negatives, .. } = *config;
        Ok(Self { temperature, negatives, projection_head, parameter_head, predictor })
    }

    /// The embeddings and predictions of a step.
    pub fn embeddings(&self, step: &StepContext) -> Result<Embeddings> {
        let (Some(params), true) = (step.params, step.has_clean) else {
            return Err(Error::Config("equimod needs the clean pictures and the parameters of their views".into()));
        };
        let images = step.images()?;
        let y = self.projection_head.forward(&step.features.pooled, step.mode)?;
        let y0 = y.narrow(0, 0, images)?;
        let clean = Tensor::cat(&[&y0, &y0], 0)?;
        let predicted = self.predict_from(&clean, params, step.mode)?;
        Ok(Embeddings { clean, views: y.narrow(0, images, 2 * images)?, predicted })
    }

    fn predict_from(&self, clean: &Tensor, params: &Tensor, mode: Mode) -> Result<Tensor> {
        let params = self.parameter_head.forward(params, mode)?;
        self.predictor.forward(clean, &params, mode)
    }
}

impl EquivarianceModule for EquiMod {
    fn needs(&self) -> Needs {
        Needs { clean_view: true, parameters: true }
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let Embeddings { clean, views, predicted } = self.embeddings(step)?;
        let rows = Tensor::cat(&[&views, &predicted], 0)?;
        let loss = nt_xent_with(&rows, self.temperature, self.negatives, step.collective.as_ref())?;
        let measured = Equivariance::of(&equivariance_rows(&clean, &views, &predicted)?);
        let metrics = vec![
            ("absolute_equivariance".to_owned(), measured.absolute),
            ("relative_equivariance".to_owned(), measured.relative),
        ];
        Ok(Term { loss, metrics })
    }

    fn embed(&self, features: &Tensor) -> Result<Option<Tensor>> {
        self.projection_head.forward(features, Mode::Eval).map(Some)
    }

    fn predict(&self, clean: &Tensor, params: &Tensor) -> Result<Option<Tensor>> {
        let clean = self.projection_head.forward(clean, Mode::Eval)?;
        self.predict_from(&clean, params, Mode::Eval).map(Some)
    }
}
