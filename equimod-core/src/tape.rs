//! Features of a backbone, the points where they are tapped, and the tape that a forward pass records for the backward
//! pass.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nn::collecting;
use crate::ops;
use crate::params::{GradientSink, Gradients};
use crate::{Error, Result};

/// Point in the backbone from which features are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("enum" = ["pooled", "stage1", "stage2", "stage3", "stage4"]))]
pub enum Tap {
    /// The pooled output of the backbone.
    #[default]
    Pooled,
    /// The globally averaged output of a stage, counted from 1.
    Stage(usize),
}

impl Tap {
    /// Index of the stage among all stages, from 0; 0 for [`Tap::Pooled`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Pooled => 0,
            Self::Stage(number) => number.saturating_sub(1),
        }
    }
}

impl From<Tap> for String {
    fn from(tap: Tap) -> Self {
        match tap {
            Tap::Pooled => "pooled".into(),
            Tap::Stage(number) => format!("stage{number}"),
        }
    }
}

impl TryFrom<String> for Tap {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let number = text.strip_prefix("stage").and_then(|number| number.parse().ok()).filter(|&number| number > 0);
        match (text.as_str(), number) {
            ("pooled", _) => Ok(Self::Pooled),
            (_, Some(number)) => Ok(Self::Stage(number)),
            _ => Err(format!("{text:?} is no place in a backbone; write \"pooled\", or \"stage1\" and so on")),
        }
    }
}

/// Output of a backbone for a batch.
#[derive(Clone, Debug)]
pub struct Features {
    /// Pooled output, `[batch, features]`.
    pub pooled: Tensor,
    /// Output of each stage: feature maps `[batch, channels, height, width]` of a convolutional network, or tokens
    /// `[batch, tokens, channels]` of a transformer.
    pub stages: Vec<Tensor>,
}

impl Features {
    /// Features at `tap`, `[batch, features]`; the output of a stage is averaged over positions or tokens.
    ///
    /// # Errors
    ///
    /// If the stage does not exist, its shape is not supported, or a tensor operation fails.
    pub fn at(&self, tap: Tap) -> Result<Tensor> {
        let Tap::Stage(number) = tap else { return Ok(self.pooled.clone()) };
        let missing = || no_stage(number, self.stages.len());
        pool_stage(self.stages.get(tap.index()).ok_or_else(missing)?)
    }

    /// The same features, detached from the graph.
    pub fn detached(&self) -> Self {
        Self { pooled: self.pooled.detach(), stages: self.stages.iter().map(Tensor::detach).collect() }
    }
}

/// Output of a stage averaged over its positions, `[batch, channels]`: feature maps `[batch, channels, height, width]`,
/// tokens `[batch, tokens, channels]`, or `[batch, channels]`, which is returned unchanged. candle differentiates all
/// but the average of feature maps.
pub(crate) fn pool_stage(stage: &Tensor) -> Result<Tensor> {
    match stage.rank() {
        2 => Ok(stage.clone()),
        3 => Ok(stage.mean(1)?),
        4 => Ok(ops::global_average_pool(stage)?),
        _ => Err(Error::ShapeMismatch {
            what: "a stage of the backbone".into(),
            expected: "[batch, channels, height, width] or [batch, tokens, channels]".into(),
            found: format!("{:?}", stage.dims()),
        }),
    }
}

/// The error of a stage that a backbone with `stages` stages does not have.
pub(crate) fn no_stage(number: usize, stages: usize) -> Error {
    Error::NotFound {
        kind: "stage",
        name: number.to_string(),
        known: format!("the backbone has {stages} stages, counted from 1"),
    }
}

/// Gradients of the loss with respect to [`Features`]; `None` for features that the loss does not use.
#[derive(Clone, Debug, Default)]
pub struct FeatureGradients {
    /// Gradient of the pooled output, `[batch, features]`.
    pub pooled: Option<Tensor>,
    /// Gradient of each stage's output, in the shape of that output.
    pub stages: Vec<Option<Tensor>>,
}

/// Saved activations of one forward pass, from which the backward pass of a backbone is computed. Implemented by each
/// backbone.
pub trait Record {
    /// Consumes the record, freeing saved activations on the way, and returns the gradients of the backbone's
    /// parameters under their full names.
    ///
    /// # Errors
    ///
    /// If the shapes of the gradients do not fit, a tensor operation fails, or the sink does.
    fn backward(self: Box<Self>, features: FeatureGradients, sink: &mut dyn GradientSink) -> Result<()>;
}

/// Tape of one forward pass.
pub struct Tape(Box<dyn Record>);

impl Tape {
    /// Wraps a backbone's record.
    pub fn new(record: impl Record + 'static) -> Self {
        Self(Box::new(record))
    }

    /// Gradients of the backbone's parameters from the gradients of its features.
    ///
    /// # Errors
    ///
    /// If the shapes of the gradients do not fit, or a tensor operation fails.
    pub fn backward(self, features: FeatureGradients) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        self.backward_into(features, &mut gradients)?;
        Ok(gradients)
    }

    /// As [`backward`](Self::backward), with each gradient passed to `sink` as soon as it is final.
    ///
    /// # Errors
    ///
    /// Those of `backward` and of the sink.
    pub fn backward_into(self, features: FeatureGradients, sink: &mut dyn GradientSink) -> Result<()> {
        self.0.backward(features, sink)
    }
}

/// candle's backward pass from a scalar `loss`: the gradients of those `parameters` that it depends on, and candle's
/// store with the gradients of all other variables.
pub(crate) fn differentiate<'a>(
    loss: &Tensor,
    parameters: impl Iterator<Item = (&'a str, &'a Var)>,
) -> Result<(Gradients, GradStore)> {
    let (mut store, mut collected) = collecting(|| loss.backward())?;
    let mut gradients = Gradients::default();
    for (name, var) in parameters {
        let gradient = match (store.remove(var.as_tensor()), collected.remove(&var.id())) {
            (Some(a), Some(b)) => Some((a + b)?),
            (a, b) => a.or(b),
        };
        if let Some(gradient) = gradient {
            gradients.insert(name, gradient)?;
        }
    }
    Ok((gradients, store))
}
