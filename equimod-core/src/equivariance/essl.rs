//! E-SSL (Dangovski et al., arXiv 2111.00899): four-way rotation prediction on small views.

use candle_core::{DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::equivariance::cross_entropy::cross_entropy;
use crate::equivariance::{EquivarianceModule, ModuleSettings, Needs, SmallView};
use crate::nn::{LayerNorm, Linear, relu};
use crate::objective::{ObjectiveConfig, mean_over_rows};
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Term, scalars};
use crate::{Error, Result};

/// Number of rotations that are classified: 0, 90, 180 and 270 degrees.
const TURNS: usize = 4;

/// Settings of [`Essl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EsslConfig {
    /// λ, the weight of this term in the loss. Published: 0.4.
    pub weight: Weight,
    /// Side of the small view in pixels. Its augmentations are those of view 1, except for the crop. Published: 96,
    /// with views of 224 pixels.
    pub size: usize,
    /// Smallest and largest fraction of the image's area that the small view covers. Published: 0.05 to 0.14.
    pub scale: (f64, f64),
    /// Width of the two hidden layers. Published: 2048.
    pub hidden: usize,
}

impl Default for EsslConfig {
    fn default() -> Self {
        Self { weight: Weight::Fixed(0.4), size: 16, scale: (0.05, 0.14), hidden: 2048 }
    }
}

impl ModuleSettings for EsslConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, _: &ObjectiveConfig) -> Vec<String> {
        let (low, high) = self.scale;
        let checks = [
            (self.size == 0, format!("equivariance.essl.size is {}; give a side of at least 1 pixel", self.size)),
            (self.hidden == 0, "equivariance.essl.hidden is 0; give at least 1".to_owned()),
            (
                !(low > 0.0 && low <= high && high <= 1.0),
                format!("equivariance.essl.scale is {low} to {high}; give shares of the area"),
            ),
        ];
        checks.into_iter().filter_map(|(bad, text)| bad.then_some(text)).collect()
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(Essl::new(self, context, scope)?)))
    }
}

/// The E-SSL module: cross-entropy over the four rotations of a small view, predicted from its pooled features by a
/// head of three linear layers with layer norm and ReLU between them.
pub struct Essl {
    small: SmallView,
    hidden: Vec<(Linear, LayerNorm)>,
    last: Linear,
}

impl Essl {
    /// Builds the head under `head` in `scope`: linear layers 0, 3 and 6, layer norms 1 and 4.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(config: &EsslConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let (width, mut scope) = (config.hidden, scope.scope("head"));
        let mut hidden = Vec::new();
        for (place, inputs) in [(0, context.features), (3, width)] {
            let linear = Linear::new(inputs, width, true, &mut scope.scope(place.to_string()))?;
            hidden.push((linear, LayerNorm::new(width, &mut scope.scope((place + 1).to_string()))?));
        }
        let last = Linear::new(width, TURNS, true, &mut scope.scope("6"))?;
        Ok(Self { small: SmallView { size: config.size, scale: config.scale }, hidden, last })
    }
}

impl EquivarianceModule for Essl {
    fn needs(&self) -> Needs {
        Needs { small: Some(self.small), ..Needs::default() }
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let rotated = step
            .rotated
            .ok_or_else(|| Error::MissingInput { input: "small views", remedy: "fill StepBatch::small" })?;
        let images = rotated.dim(0)? / TURNS;
        let mut xs = rotated.clone();
        for (linear, norm) in &self.hidden {
            xs = relu(&norm.forward(&linear.forward(&xs)?)?)?;
        }
        let logits = self.last.forward(&xs)?;
        let turns: Vec<u32> = (0..TURNS as u32).flat_map(|turn| std::iter::repeat_n(turn, images)).collect();
        let classes = Tensor::new(turns, logits.device())?;
        let correct = logits.detach().argmax(1)?.eq(&classes)?.to_dtype(DType::F32)?;
        let accuracy = mean_over_rows(&correct, step.collective.as_ref())?;
        let loss = cross_entropy(&logits, &classes, step.collective.as_ref())?;
        Ok(Term { loss, metrics: scalars([("accuracy", &accuracy)]) })
    }
}
