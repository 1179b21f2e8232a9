//! Inputs and outputs of a training step: the batch, the context that objectives and modules receive, and their terms.

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::{Device, Tensor};

use crate::collective::SharedCollective;
use crate::error::listed;
use crate::nn::{Mode, hand_written};
use crate::ops;
use crate::tape::{Tap, pool_stage};
use crate::{Error, Result};

/// Named scalars `[]`, in the order in which they were added. They stay on their device until
/// [`host::read`](crate::host::read) transfers many of them at once. Values that originate on the host are CPU tensors.
pub type Metrics = Vec<(String, Tensor)>;

/// One batch as tensors: B images with two views each. Images are normalized by the channels' mean and std.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// The original (un-augmented) images, `[B, 3, height, width]`; `None` if no part needs them.
    pub clean: Option<Tensor>,
    /// The two augmented views, `[B, 3, height, width]` each.
    pub views: [Tensor; 2],
    /// Small views before their rotation by multiples of 90 degrees, `[B, 3, side, side]`; `None` if no part needs
    /// them.
    pub small: Option<Tensor>,
    /// Normalized augmentation parameters of view 1, then of view 2, `[2B, parameters]`; `None` if no part needs them.
    pub params: Option<Tensor>,
    /// Normalized augmentation parameters from view 1 to view 2, then from view 2 to view 1, `[2B, parameters]`; `None`
    /// if no part needs them.
    pub pairs: Option<Tensor>,
}

impl StepBatch {
    /// A batch of views alone, `[B, 3, height, width]` each.
    pub fn of_views(views: [Tensor; 2]) -> Self {
        Self { clean: None, views, small: None, params: None, pairs: None }
    }

    /// Number of images B.
    ///
    /// # Errors
    ///
    /// If the views are scalars.
    pub fn samples(&self) -> Result<usize> {
        Ok(self.views[0].dim(0)?)
    }

    /// The samples with the indices `samples`, with their images on `device` and without parameters. Indices of as many
    /// samples as the batch has are those of the whole batch, in order.
    ///
    /// # Errors
    ///
    /// If an index exceeds the batch, or the transfer fails.
    pub fn part(&self, samples: &[u32], device: &Device) -> Result<Self> {
        let part = |images: &Tensor| -> Result<Tensor> {
            let part = match samples.len() == images.dim(0)? {
                // candle transfers a view's whole memory.
                true if !images.device().same_device(device) => images.force_contiguous()?,
                true => images.clone(),
                false => rows_at(images, samples)?,
            };
            Ok(part.to_device(device)?)
        };
        let views = [part(&self.views[0])?, part(&self.views[1])?];
        let (clean, small) = (self.clean.as_ref().map(part).transpose()?, self.small.as_ref().map(part).transpose()?);
        Ok(Self { clean, views, small, params: None, pairs: None })
    }

    /// Original images (if any), view 1 and view 2, concatenated for one pass of the backbone:
    /// `[3B or 2B, 3, height, width]`.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a tensor operation fails.
    pub fn images(&self) -> Result<Tensor> {
        let parts: Vec<&Tensor> = self.clean.iter().chain(&self.views).collect();
        Ok(ops::join_images(&parts)?)
    }

    /// The small views rotated counterclockwise by 0, 90, 180 and 270 degrees, `[4B, 3, side, side]`; `None` without
    /// small views.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn rotated(&self) -> Result<Option<Tensor>> {
        let Some(small) = &self.small else { return Ok(None) };
        let quarter = |images: &Tensor| images.transpose(2, 3)?.contiguous()?.flip(&[2]);
        let quarter1 = quarter(small)?;
        let quarter2 = quarter(&quarter1)?;
        let quarter3 = quarter(&quarter2)?;
        Ok(Some(Tensor::cat(&[small, &quarter1, &quarter2, &quarter3], 0)?))
    }
}

/// The target network's embeddings of both views by the scope of their head, `[2B, width]` each, view 1 before view 2.
/// They carry no gradient.
pub struct Targets(BTreeMap<&'static str, Tensor>);

impl Targets {
    /// Collects embeddings `[2B, width]`, each with the scope of its head.
    pub fn new(embeddings: impl IntoIterator<Item = (&'static str, Tensor)>) -> Self {
        Self(embeddings.into_iter().collect())
    }

    /// Embeddings `[2B, width]` of the head at the scope `name`.
    ///
    /// # Errors
    ///
    /// If the target network has no such head.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::NotFound {
            kind: "head",
            name: name.into(),
            known: format!("the target network has: {}", listed(self.0.keys().copied())),
        })
    }
}

/// Inputs of an objective or a module in one step.
pub struct StepContext<'a> {
    /// Pooled features of the original images (if any), view 1 and view 2, in this order: `[3B or 2B, features]`.
    pub pooled: &'a Tensor,
    /// Output of each stage, `None` for stages that no module taps: feature maps `[3B or 2B, channels, height, width]`,
    /// or tokens `[3B or 2B, tokens, channels]`.
    pub stages: &'a [Option<Tensor>],
    /// Whether the first B rows belong to the original images.
    pub has_clean: bool,
    /// Pooled features of the small views rotated by 0, 90, 180 and 270 degrees, `[4B, features]`.
    pub rotated: Option<&'a Tensor>,
    /// Normalized augmentation parameters of view 1, then view 2, `[2B, parameters]`.
    pub params: Option<&'a Tensor>,
    /// Normalized augmentation parameters from view 1 to view 2, then from view 2 to view 1, `[2B, parameters]`.
    pub pairs: Option<&'a Tensor>,
    /// The target network's embeddings of the views.
    pub target: Option<&'a Targets>,
    /// Mode of batch norm in the heads.
    pub mode: Mode,
    /// Collective of the processes that share the batch.
    pub collective: &'a SharedCollective,
}

impl<'a> StepContext<'a> {
    /// A context of pooled features alone, `[3B, features]` with the original images first if `has_clean`, else
    /// `[2B, features]`.
    pub fn of_features(pooled: &'a Tensor, has_clean: bool, mode: Mode, collective: &'a SharedCollective) -> Self {
        let (rotated, params, pairs, target) = (None, None, None, None);
        Self { pooled, stages: &[], has_clean, rotated, params, pairs, target, mode, collective }
    }

    /// Number of images B.
    ///
    /// # Errors
    ///
    /// If the rows of features do not divide into views.
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

    /// Features at `tap`, `[rows, width]`, in the order of [`pooled`](Self::pooled).
    ///
    /// # Errors
    ///
    /// If the stage does not exist or is not tapped, its shape is not supported, or a tensor operation fails.
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
    ///
    /// # Errors
    ///
    /// If the rows of features do not divide into views.
    pub fn view_features(&self) -> Result<Tensor> {
        self.views_of(self.pooled)
    }

    /// The rows of view 1, then view 2, `[2B, width]`, from rows in the order of [`pooled`](Self::pooled).
    ///
    /// # Errors
    ///
    /// If the number of rows does not fit.
    pub fn views_of(&self, rows: &Tensor) -> Result<Tensor> {
        let images = self.images()?;
        let start = if self.has_clean { images } else { 0 };
        Ok(rows.narrow(0, start, 2 * images)?)
    }

    /// Parameters of the views, `[2B, parameters]`.
    ///
    /// # Errors
    ///
    /// If the step has none.
    pub fn params(&self) -> Result<&'a Tensor> {
        let (input, remedy) = ("the parameters of views", "fill StepBatch::params");
        self.params.ok_or(Error::MissingInput { input, remedy })
    }

    /// Parameters from view to view, `[2B, parameters]`.
    ///
    /// # Errors
    ///
    /// If the step has none.
    pub fn pairs(&self) -> Result<&'a Tensor> {
        let (input, remedy) = ("the parameters from one view to the other", "fill StepBatch::pairs");
        self.pairs.ok_or(Error::MissingInput { input, remedy })
    }

    /// The target network's embeddings of the views from its head at `name`, `[2B, width]`, view 1 before view 2.
    ///
    /// # Errors
    ///
    /// If the step has no target network, or the network has no such head.
    pub fn target(&self, name: &str) -> Result<&'a Tensor> {
        let (input, remedy) = ("embeddings of a target network", "use an objective with a target network");
        self.target.ok_or(Error::MissingInput { input, remedy })?.get(name)
    }
}

/// A term of the loss with its metrics.
pub struct Term {
    /// Unweighted loss, a scalar.
    pub loss: Tensor,
    /// Named scalars to log with the loss.
    pub metrics: Metrics,
}

/// Wall-clock time of each part of a step. GPU kernels run asynchronously, so on a GPU only the sum is meaningful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// Forward pass of the backbone.
    pub backbone_forward: Duration,
    /// Forward pass of heads and losses.
    pub heads_forward: Duration,
    /// Backward pass from the losses to the features.
    pub heads_backward: Duration,
    /// Backward pass from the features through the backbone.
    pub backbone_backward: Duration,
}

/// Detached scalars as metrics.
pub(crate) fn scalars<const N: usize>(named: [(&str, &Tensor); N]) -> Metrics {
    named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.detach())).collect()
}

/// The rows of a tensor at `indices`, copied.
pub(crate) fn rows_at(tensor: &Tensor, indices: &[u32]) -> Result<Tensor> {
    Ok(tensor.contiguous()?.index_select(&Tensor::new(indices, tensor.device())?, 0)?)
}

/// A host value as a scalar on the CPU.
pub(crate) fn known(value: f64) -> Result<Tensor> {
    Ok(Tensor::new(value, &Device::Cpu)?)
}
