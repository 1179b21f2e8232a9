//! What the parts of a method see of one training step, and what they give back.

use std::time::Duration;

use candle_core::{DType, Tensor};

use crate::collective::SharedCollective;
use crate::nn::Mode;
use crate::tape::Features;
use crate::{Error, Result};

/// Named scalars, in the order in which they were added.
pub type Metrics = Vec<(String, f64)>;

/// One batch as tensors; B images, two views each.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// The pictures without augmentation, `[B, 3, height, width]`, normalised; absent where nothing needs them.
    pub clean: Option<Tensor>,
    /// The two augmented views, `[B, 3, height, width]` each, normalised.
    pub views: [Tensor; 2],
    /// Normalised parameter vectors of view 1, then of view 2, `[2B, parameters]`; absent where nothing needs them.
    pub params: Option<Tensor>,
}

impl StepBatch {
    /// Clean images (if any), view 1, view 2, one after the other, so that one pass of the backbone takes all.
    pub fn images(&self) -> Result<Tensor> {
        let parts: Vec<&Tensor> = self.clean.iter().chain(&self.views).collect();
        Ok(Tensor::cat(&parts, 0)?)
    }
}

/// What an objective or a module sees of a step.
pub struct StepContext<'a> {
    /// Features of clean images (if any), view 1, view 2, in this order of rows.
    pub features: &'a Features,
    /// Whether the first B rows are clean images.
    pub has_clean: bool,
    /// Normalised parameters of view 1, then view 2, `[2B, parameters]`.
    pub params: Option<&'a Tensor>,
    /// Whether batch norm trains.
    pub mode: Mode,
    /// The processes that share the batch.
    pub collective: &'a SharedCollective,
}

impl StepContext<'_> {
    /// B: the number of images.
    pub fn images(&self) -> Result<usize> {
        let parts = if self.has_clean { 3 } else { 2 };
        let rows = self.features.pooled.dim(0)?;
        if rows == 0 || rows % parts != 0 {
            return Err(Error::Config(format!("a step got {rows} rows of features for {parts} pictures a sample")));
        }
        Ok(rows / parts)
    }

    /// Pooled features of view 1, then view 2, `[2B, features]`.
    pub fn view_features(&self) -> Result<Tensor> {
        let images = self.images()?;
        let start = if self.has_clean { images } else { 0 };
        Ok(self.features.pooled.narrow(0, start, 2 * images)?)
    }
}

/// A part's contribution to the loss.
pub struct Term {
    /// A scalar.
    pub loss: Tensor,
    /// Named scalars to log beside it.
    pub metrics: Metrics,
}

/// Where the time of a step went. A GPU works on after a call returns: there only the sum means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// Pictures through the backbone.
    pub backbone_forward: Duration,
    /// Features through heads and losses.
    pub heads_forward: Duration,
    /// The way back from the losses to the features.
    pub heads_backward: Duration,
    /// The way back from the features through the backbone.
    pub backbone_backward: Duration,
}

/// The value of a scalar.
pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    match tensor.dtype() {
        DType::F64 => Ok(tensor.to_scalar::<f64>()?),
        _ => Ok(tensor.to_dtype(DType::F32)?.to_scalar::<f32>()?.into()),
    }
}
