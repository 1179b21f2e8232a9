//! AugSelf (Lee et al., arXiv 2111.09613): prediction of the difference between two views' augmentation parameters from
//! the features of both.

use std::fmt;
use std::str::FromStr;

use candle_core::{D, DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::build::BuildContext;
use crate::collective::Collective;
use crate::equivariance::cross_entropy::cross_entropy;
use crate::equivariance::{EquivarianceModule, ModuleSettings, Needs};
use crate::error::listed;
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::{ObjectiveConfig, mean_over_rows};
use crate::optim::Weight;
use crate::parameters::PairValue;
use crate::params::Scope;
use crate::spelling::{modern, stored};
use crate::step::{StepContext, Term};
use crate::tape::Tap;
use crate::{Error, Result};

/// An augmentation whose parameters are predicted, with the weight of its loss, written `random-resized-crop 0.5`.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Name of the augmentation.
    pub augmentation: String,
    /// Weight of its loss; 1 if none is written.
    pub weight: f64,
}

impl FromStr for Prediction {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let problem = || format!("{text:?} is no prediction; write an augmentation and a weight: \"color-jitter 0.5\"");
        let (name, weight) = match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            [name] => (modern(name).to_owned(), Some(1.0)),
            [name, weight] => (modern(name).to_owned(), weight.parse().ok()),
            _ => return Err(problem()),
        };
        let weight = weight.filter(|weight: &f64| weight.is_finite() && *weight >= 0.0).ok_or_else(problem)?;
        Ok(Self { augmentation: name, weight })
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.augmentation, self.weight)
    }
}

impl Serialize for Prediction {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prediction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Settings of [`AugSelf`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugSelfConfig {
    /// λ, the weight of this term in the loss. Published: 0.5 to 1.
    pub weight: Weight,
    /// Features from which the parameters are predicted. Published: `pooled`.
    pub tap: Tap,
    /// Augmentations whose parameters are predicted, with the weights of their losses. If empty, all augmentations with
    /// weight 1.
    pub predictions: Vec<Prediction>,
    /// Widths of the predictors' hidden layers. Published: two layers of 512.
    pub hidden: Vec<usize>,
}

impl Default for AugSelfConfig {
    fn default() -> Self {
        Self { weight: Weight::Fixed(0.5), tap: Tap::Pooled, predictions: Vec::new(), hidden: vec![512, 512] }
    }
}

impl ModuleSettings for AugSelfConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, _: &ObjectiveConfig) -> Vec<String> {
        let mut problems = Vec::new();
        if self.hidden.contains(&0) {
            problems.push("equivariance.augself.hidden has a width of 0; give at least 1".into());
        }
        let named = |k: usize| self.predictions[k].augmentation.as_str();
        if let Some(k) = (1..self.predictions.len()).find(|&k| (0..k).any(|before| named(before) == named(k))) {
            problems.push(format!("augself predicts {:?} twice; name each augmentation once", named(k)));
        }
        problems
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(AugSelf::new(self, context, scope)?)))
    }
}

/// The AugSelf module: `Σ_a w_a·L_a(φ_a(cat[h1, h2]), p12)` over augmentations a. L_a is the mean squared error for
/// continuous parameters, whose differences are scaled to [−1, 1], and the cross-entropy for binary ones.
pub struct AugSelf {
    tap: Tap,
    predictors: Vec<Predictor>,
}

/// Predictor φ_a of one augmentation.
struct Predictor {
    name: String,
    weight: f64,
    head: Head,
    task: Task,
}

enum Task {
    /// Regression of the differences scaled to [−1, 1], `slope·p + offset = (p·std + mean)/reach`, of the values at
    /// `places` in the parameter vector; `[places]` each.
    Values { places: Vec<usize>, slope: Vec<f64>, offset: Vec<f64> },
    /// Classification of the difference of the flag at `place` in the parameter vector, scaled the same way.
    Flag { place: usize, slope: f64, offset: f64, classes: Classes },
}

/// Classes of the difference between two flags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Classes {
    /// Off then on, equal, on then off.
    Three,
    /// Equal or different. Used for flips: an image and its mirror image are indistinguishable, so the direction is
    /// unknown.
    Two,
}

impl Classes {
    fn count(self) -> usize {
        match self {
            Self::Three => 3,
            Self::Two => 2,
        }
    }
}

impl Task {
    /// The task for the values of one augmentation, none of them constant: regression of the continuous values or,
    /// without any, classification of the first flag.
    fn of(augmentation: &str, values: &[(usize, &PairValue)]) -> Self {
        let scale = |value: &PairValue| {
            let reach = f64::from(value.reach);
            (f64::from(value.std) / reach, f64::from(value.mean) / reach)
        };
        // The order of color jitter's operations is categorical.
        let measured: Vec<_> = values.iter().filter(|(_, v)| !v.flag && !v.name.contains("order")).collect();
        if let (true, Some((place, value))) = (measured.is_empty(), values.first()) {
            let (slope, offset) = scale(value);
            let classes = if augmentation.ends_with("flip") { Classes::Two } else { Classes::Three };
            return Self::Flag { place: *place, slope, offset, classes };
        }
        let (slope, offset) = measured.iter().map(|(_, value)| scale(value)).unzip();
        Self::Values { places: measured.iter().map(|(place, _)| *place).collect(), slope, offset }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Values { places, .. } => places.len(),
            Self::Flag { classes, .. } => classes.count(),
        }
    }

    /// Loss of predictions `[B, outputs]` for parameters `[B, parameters]`, a scalar: the mean over all processes.
    fn loss(&self, outputs: &Tensor, params: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
        let (dtype, device) = (outputs.dtype(), outputs.device());
        match self {
            Self::Values { places, slope, offset } => {
                let columns: Vec<u32> = places.iter().map(|&place| place as u32).collect();
                let chosen = params.index_select(&Tensor::new(columns, device)?, 1)?;
                let constants =
                    |values: &[f64]| -> Result<Tensor> { Ok(Tensor::new(values, device)?.to_dtype(dtype)?) };
                let scaled = chosen.broadcast_mul(&constants(slope)?)?.broadcast_add(&constants(offset)?)?;
                mean_over_rows(&(outputs - scaled)?.sqr()?.mean(D::Minus1)?, collective)
            }
            Self::Flag { place, slope, offset, classes } => {
                let difference = params.narrow(1, *place, 1)?.affine(*slope, *offset)?.round()?;
                let class = match classes {
                    Classes::Three => (difference + 1.0)?,
                    Classes::Two => difference.abs()?,
                };
                cross_entropy(outputs, &class.squeeze(1)?.to_dtype(DType::U32)?, collective)
            }
        }
    }
}

impl AugSelf {
    /// Builds one predictor for each augmentation, under the augmentation's name in `scope`.
    ///
    /// # Errors
    ///
    /// If the policy gives no parameters from view to view, a named augmentation has none that vary, the backbone lacks
    /// the tapped stage, or a parameter of the same name already exists.
    pub fn new(config: &AugSelfConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        context.pair_width()?;
        // Constant values, such as the hue when it is not jittered, need no prediction.
        let all = context.parameters.pair.iter().enumerate();
        let values: Vec<(usize, &PairValue)> = all.filter(|(_, value)| value.reach > 0.0).collect();
        let mut known: Vec<&str> = values.iter().map(|(_, value)| value.augmentation.as_str()).collect();
        known.dedup();
        let all = || known.iter().map(|name| Prediction { augmentation: (*name).to_owned(), weight: 1.0 }).collect();
        let wanted = if config.predictions.is_empty() { all() } else { config.predictions.clone() };
        let width = 2 * context.width(config.tap)?;
        let mut predictors = Vec::new();
        for Prediction { augmentation: name, weight } in wanted {
            let own: Vec<_> = values.iter().filter(|(_, value)| value.augmentation == name).copied().collect();
            if own.is_empty() {
                let reason =
                    format!("only parameters that vary can be predicted: those of {}", listed(known.iter().copied()));
                return Err(Error::setting("equivariance.augself.predictions", format!("{name:?}"), reason));
            }
            let task = Task::of(&name, &own);
            let widths = config.hidden.iter().copied().chain([task.outputs()]).collect();
            let head = context.head(&HeadSpec { widths, ending: Ending::Bias }, width, stored(&name), scope)?;
            predictors.push(Predictor { name, weight, head, task });
        }
        Ok(Self { tap: config.tap, predictors })
    }
}

impl EquivarianceModule for AugSelf {
    fn needs(&self) -> Needs {
        Needs { pairs: true, ..Needs::default() }.at(self.tap)
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let images = step.images()?;
        let views = step.views_of(&step.at(self.tap)?)?;
        let both = Tensor::cat(&[views.narrow(0, 0, images)?, views.narrow(0, images, images)?], 1)?;
        let params = step.pairs()?.narrow(0, 0, images)?.contiguous()?;
        let (mut total, mut metrics) = (Tensor::zeros((), both.dtype(), both.device())?, Vec::new());
        for Predictor { name, weight, head, task } in &self.predictors {
            let loss = task.loss(&head.forward(&both, step.mode)?, &params, step.collective.as_ref())?;
            metrics.push((format!("{name}_loss"), loss.detach()));
            total = (total + (loss * *weight)?)?;
        }
        Ok(Term { loss: total, metrics })
    }

    fn tap(&self) -> Tap {
        self.tap
    }
}
