//! What the parts of a method see of one training step, and what they give back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use candle_core::{Device, Tensor};

use crate::collective::SharedCollective;
use crate::error::listed;
use crate::nn::{Mode, hand_written};
use crate::ops;
use crate::tape::{Tap, pool_stage};
use crate::{Error, Result, host};

/// Named scalars `[]`, in the order in which they were added. They stay on their device until [`host::read`] transfers
/// many of them at once; those that the host knows are on the CPU.
pub type Metrics = Vec<(String, Tensor)>;

/// One batch as tensors; B images, two views each.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// The pictures without augmentation, `[B, 3, height, width]`, normalised; absent where nothing needs them.
    pub clean: Option<Tensor>,
    /// The two augmented views, `[B, 3, height, width]` each, normalised.
    pub views: [Tensor; 2],
    /// Small views, `[B, 3, side, side]`, normalised, to be turned by quarters; absent where nothing needs them.
    pub small: Option<Tensor>,
    /// Normalised parameter vectors of view 1, then of view 2, `[2B, parameters]`; absent where nothing needs them.
    pub params: Option<Tensor>,
    /// Normalised parameter vectors from view 1 to view 2, then from view 2 to view 1, `[2B, parameters]`; absent where
    /// nothing needs them.
    pub pairs: Option<Tensor>,
}

impl StepBatch {
    /// Views alone.
    pub fn of_views(views: [Tensor; 2]) -> Self {
        Self { clean: None, views, small: None, params: None, pairs: None }
    }

    /// B.
    pub fn pictures(&self) -> Result<usize> {
        Ok(self.views[0].dim(0)?)
    }

    /// Images of some pictures alone, on `device`; parameters are left out.
    pub fn part(&self, pictures: Range<usize>, device: &Device) -> Result<Self> {
        let part = |images: &Tensor| -> Result<Tensor> {
            Ok(images.narrow(0, pictures.start, pictures.len())?.to_device(device)?)
        };
        let views = [part(&self.views[0])?, part(&self.views[1])?];
        let (clean, small) = (self.clean.as_ref().map(part).transpose()?, self.small.as_ref().map(part).transpose()?);
        Ok(Self { clean, views, small, params: None, pairs: None })
    }

    /// Clean images (if any), view 1, view 2, one after the other, so that one pass of the backbone takes all.
    pub fn images(&self) -> Result<Tensor> {
        let parts: Vec<&Tensor> = self.clean.iter().chain(&self.views).collect();
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// The small views turned counter-clockwise by 0, 90, 180 and 270 degrees, `[4B, 3, side, side]`.
    pub fn turned(&self) -> Result<Option<Tensor>> {
        let Some(small) = &self.small else { return Ok(None) };
        let quarter = |images: &Tensor| images.transpose(2, 3)?.contiguous()?.flip(&[2]);
        let quarter1 = quarter(small)?;
        let quarter2 = quarter(&quarter1)?;
        let quarter3 = quarter(&quarter2)?;
        Ok(Some(Tensor::cat(&[small, &quarter1, &quarter2, &quarter3], 0)?))
    }
}

/// The target network's embeddings of both views, by the scope of the head: `[2B, width]`, view 1 before view 2. They
/// carry no gradient.
pub struct Targets(BTreeMap<&'static str, Tensor>);

impl Targets {
    /// Embeddings by the scope of their head.
    pub fn new(embeddings: impl IntoIterator<Item = (&'static str, Tensor)>) -> Self {
        Self(embeddings.into_iter().collect())
    }

    /// The embeddings of the head at `name`.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::NotFound {
            kind: "head",
            name: name.into(),
            known: format!("the target network has: {}", listed(self.0.keys().copied())),
        })
    }
}

/// What an objective or a module sees of a step.
pub struct StepContext<'a> {
    /// Pooled features of clean images (if any), view 1, view 2, in this order of rows: `[3B or 2B, features]`.
    pub pooled: &'a Tensor,
    /// The output of each stage that a module taps: maps `[3B or 2B, channels, height, width]`, or tokens
    /// `[3B or 2B, tokens, channels]`.
    pub stages: &'a [Option<Tensor>],
    /// Whether the first B rows are clean images.
    pub has_clean: bool,
    /// Pooled features of the small views turned by 0, 90, 180 and 270 degrees, `[4B, features]`.
    pub turned: Option<&'a Tensor>,
    /// Normalised parameters of view 1, then view 2, `[2B, parameters]`.
    pub params: Option<&'a Tensor>,
    /// Normalised parameters from view 1 to view 2, then from view 2 to view 1, `[2B, parameters]`.
    pub pairs: Option<&'a Tensor>,
    /// What the target network makes of the views.
    pub target: Option<&'a Targets>,
    /// Whether batch norm trains.
    pub mode: Mode,
    /// The processes that share the batch.
    pub collective: &'a SharedCollective,
}

impl<'a> StepContext<'a> {
    /// Of pooled features alone, those of clean images first if `has_clean`.
    pub fn of_features(pooled: &'a Tensor, has_clean: bool, mode: Mode, collective: &'a SharedCollective) -> Self {
        let (turned, params, pairs, target) = (None, None, None, None);
        Self { pooled, stages: &[], has_clean, turned, params, pairs, target, mode, collective }
    }

    /// B: the number of images.
    pub fn images(&self) -> Result<usize> {
        let parts = if self.has_clean { 3 } else { 2 };
        let rows = self.pooled.dim(0)?;
        if rows == 0 || rows % parts != 0 {
            let part = if self.has_clean { "a step with original images" } else { "a step of two views" };
            return Err(Error::uneven(part, "rows of features", parts, rows));
        }
        Ok(rows / parts)
    }

    /// B: the number of original images, whose features are the first rows.
    ///
    /// # Errors
    ///
    /// If the step has no original images, or rows that do not divide into images.
    pub fn clean_images(&self) -> Result<usize> {
        let (input, remedy) = ("the original images", "fill StepBatch::clean");
        if self.has_clean { self.images() } else { Err(Error::MissingInput { input, remedy }) }
    }

    /// Features where they are tapped, `[rows, width]`, in the order of [`pooled`](Self::pooled).
    pub fn at(&self, tap: Tap) -> Result<Tensor> {
        let Tap::Stage(number) = tap else { return Ok(self.pooled.clone()) };
        let missing = || Error::NotFound {
            kind: "stage",
            name: number.to_string(),
            known: "a step keeps the stages that modules declare in their needs".into(),
        };
        let stage = self.stages.get(tap.index()).and_then(Option::as_ref).ok_or_else(missing)?;
        let &[_, _, height, width] = stage.dims() else { return pool_stage(stage) };
        let pooled = ops::global_average_pool(&stage.detach())?;
        let backward = move |dys: &Tensor| ops::global_average_pool_backward(dys, (height, width));
        Ok(hand_written(stage, &pooled, backward)?)
    }

    /// Pooled features of view 1, then view 2, `[2B, features]`.
    pub fn view_features(&self) -> Result<Tensor> {
        self.views_of(self.pooled)
    }

    /// Of rows in the order of [`pooled`](Self::pooled), those of view 1, then view 2: `[2B, width]`.
    pub fn views_of(&self, rows: &Tensor) -> Result<Tensor> {
        let images = self.images()?;
        let start = if self.has_clean { images } else { 0 };
        Ok(rows.narrow(0, start, 2 * images)?)
    }

    /// [`params`](Self::params), which are there.
    pub fn params(&self) -> Result<&'a Tensor> {
        let (input, remedy) = ("the parameters of views", "fill StepBatch::params");
        self.params.ok_or(Error::MissingInput { input, remedy })
    }

    /// [`pairs`](Self::pairs), which are there.
    pub fn pairs(&self) -> Result<&'a Tensor> {
        let (input, remedy) = ("the parameters from one view to the other", "fill StepBatch::pairs");
        self.pairs.ok_or(Error::MissingInput { input, remedy })
    }

    /// What the target network's head at `name` makes of the views, `[2B, width]`, view 1 before view 2.
    pub fn target(&self, name: &str) -> Result<&'a Tensor> {
        let (input, remedy) = ("embeddings of a target network", "use an objective with a target network");
        self.target.ok_or(Error::MissingInput { input, remedy })?.get(name)
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

/// Metrics of losses and their terms.
pub(crate) fn scalars<const N: usize>(named: [(&str, &Tensor); N]) -> Metrics {
    named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.detach())).collect()
}

/// A scalar that the host knows.
pub(crate) fn known(value: f64) -> Result<Tensor> {
    Ok(Tensor::new(value, &Device::Cpu)?)
}

/// The values of metrics, in one transfer from their device.
///
/// # Errors
///
/// If the transfer fails.
pub fn read_metrics(metrics: &Metrics) -> Result<Vec<(String, f64)>> {
    let values = host::read(&metrics.iter().map(|(_, scalar)| scalar).collect::<Vec<_>>())?;
    Ok(metrics.iter().map(|(name, _)| name.clone()).zip(values).collect())
}
