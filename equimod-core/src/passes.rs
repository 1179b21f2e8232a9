//! Forward and backward pass of the backbone over a batch, either at once or in micro-batches with gradient caching,
//! which needs memory for the activations of only one micro-batch.
//!
//! With micro-batches (GradCache, Gao et al., arXiv 2101.06983), the backbone first runs over each one without saving
//! activations. Losses and heads see the features of the whole batch. Then each micro-batch runs forward again with a
//! tape, and backward from its rows of the features' gradients.
//!
//! Losses and gradients are those of the whole batch, except for batch norm: its statistics are those of one
//! micro-batch, and its running statistics are updated once for each micro-batch.
//!
//! Of N micro-batches, each takes every N-th sample. With several processes, whose samples are consecutive, the n-th
//! micro-batches of all together are then the n-th micro-batch of one process with the whole batch.

use candle_core::{DType, Device, Tensor};

use crate::backbone::Backbone;
use crate::nn::Mode;
use crate::ops;
use crate::params::{GradientSink, Gradients};
use crate::step::{StepBatch, rows_at};
use crate::tape::{FeatureGradients, Features, Tape};
use crate::{Error, Result};

/// Device and element type of a backbone's input.
#[derive(Clone, Copy)]
pub(crate) struct ImagePlacement<'a> {
    pub device: &'a Device,
    pub dtype: DType,
}

/// Settings of the backbone's passes over a batch.
pub(crate) struct Passes<'a> {
    pub backbone: &'a dyn Backbone,
    /// Device and element type of the backbone's input; batches may have others.
    pub placement: ImagePlacement<'a>,
    /// Number of micro-batches of a batch.
    pub parts: usize,
    /// Stages whose outputs are tapped, counted from 1.
    pub tapped: &'a [usize],
    pub mode: Mode,
}

/// Features of one pass of the backbone over the whole batch.
pub(crate) struct PassFeatures {
    /// Pooled features, `[rows, features]`.
    pub pooled: Tensor,
    /// Output of each stage, `None` for stages that are not tapped: feature maps `[rows, channels, height, width]`, or
    /// tokens `[rows, tokens, channels]`.
    pub stages: Vec<Option<Tensor>>,
}

/// State that a forward pass saves for the backward pass.
pub(crate) enum SavedPass<'a> {
    /// Tape of each pass over the whole batch.
    Whole(Vec<Tape>),
    /// The micro-batches, which are recomputed.
    MicroBatches(Vec<MicroBatch<'a>>),
}

/// Some of a batch's samples.
pub(crate) struct MicroBatch<'a> {
    batch: &'a StepBatch,
    /// Indices in the batch.
    samples: Vec<u32>,
}

impl MicroBatch<'_> {
    /// Number of images.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// View 1, then view 2, of this micro-batch, `[2·images, 3, height, width]`.
    pub fn views(&self, placement: ImagePlacement) -> Result<Tensor> {
        let part = self.batch.part(&self.samples, placement.device)?;
        Ok(ops::join_images(&part.views.iter().collect::<Vec<_>>())?.to_dtype(placement.dtype)?)
    }

    /// Images of each pass: original images and views, then the rotated small views if a module needs them.
    fn images(&self, placement: ImagePlacement) -> Result<Vec<Tensor>> {
        let part = self.batch.part(&self.samples, placement.device)?;
        let passes = [Some(part.images()?), part.rotated()?];
        Ok(passes
            .into_iter()
            .flatten()
            .map(|images| images.to_dtype(placement.dtype))
            .collect::<candle_core::Result<_>>()?)
    }
}

/// Divides the batch into `parts` micro-batches of nearly equal size; micro-batch n holds the samples n, n + parts, ….
pub(crate) fn micro_batches(batch: &StepBatch, parts: usize) -> Result<Vec<MicroBatch<'_>>> {
    let samples = batch.samples()?;
    let parts = parts.clamp(1, samples.max(1));
    let of_part = |first: usize| (first..samples).step_by(parts).map(|sample| sample as u32).collect();
    Ok((0..parts).map(|first| MicroBatch { batch, samples: of_part(first) }).collect())
}

impl<'a> Passes<'a> {
    /// Features of the original images and views, and of the rotated small views if there are any.
    pub fn forward<'b>(&self, batch: &'b StepBatch) -> Result<(Vec<PassFeatures>, SavedPass<'b>)> {
        let parts = micro_batches(batch, self.parts)?;
        if let [whole] = parts.as_slice() {
            let passes = whole.images(self.placement)?;
            let passes: Vec<_> =
                passes.iter().map(|images| self.backbone.forward(images, self.mode)).collect::<Result<_>>()?;
            let (features, tapes): (Vec<Features>, Vec<Tape>) = passes.into_iter().unzip();
            return Ok((features.into_iter().map(|f| self.kept(f)).collect(), SavedPass::Whole(tapes)));
        }
        // Running statistics are updated in the second pass.
        let mode = if self.mode == Mode::Train { Mode::TrainFrozenStats } else { self.mode };
        let infer = |images: &Tensor| -> Result<PassFeatures> { Ok(self.kept(self.backbone.infer(images, mode)?)) };
        let of_part = |part: &MicroBatch| part.images(self.placement)?.iter().map(infer).collect::<Result<Vec<_>>>();
        let passed = parts.iter().map(of_part).collect::<Result<Vec<_>>>()?;
        let passes = passed.first().map_or(0, Vec::len);
        let of_pass = |pass: usize| passed.iter().filter_map(|part| part.get(pass)).collect::<Vec<_>>();
        let whole = (0..passes).map(|pass| joined(&of_pass(pass), &parts)).collect::<Result<_>>()?;
        Ok((whole, SavedPass::MicroBatches(parts)))
    }

    fn kept(&self, Features { pooled, stages }: Features) -> PassFeatures {
        let kept = |(number, stage): (usize, Tensor)| self.tapped.contains(&(number + 1)).then_some(stage);
        PassFeatures { pooled, stages: stages.into_iter().enumerate().map(kept).collect() }
    }

    /// Passes the gradients of the backbone's parameters to `sink`, computed from those of its features. They are added
    /// to the gradients in `before`, and each is passed on as soon as the last pass has computed it.
    pub fn backward(
        &self,
        saved: SavedPass,
        features: Vec<FeatureGradients>,
        before: Gradients,
        sink: &mut dyn GradientSink,
    ) -> Result<()> {
        let mut sums = PassSums { before, sink };
        match saved {
            SavedPass::Whole(tapes) => {
                let last = tapes.len();
                for (number, (tape, features)) in (1..).zip(tapes.into_iter().zip(features)) {
                    sums.add(tape, features, number == last)?;
                }
            }
            SavedPass::MicroBatches(parts) => {
                let last = parts.len() * features.len();
                let mut number = 0;
                for part in parts {
                    for (images, features) in part.images(self.placement)?.iter().zip(&features) {
                        number += 1;
                        let (_, tape) = self.backbone.forward(images, self.mode)?;
                        sums.add(tape, rows_of(features, &part)?, number == last)?;
                    }
                }
            }
        }
        sums.before.hand_over(sums.sink)
    }
}

/// Sums of the gradients of several passes, handed over in the last one.
struct PassSums<'a> {
    /// Sums over the passes so far, without those that were handed over.
    before: Gradients,
    sink: &'a mut dyn GradientSink,
}

impl PassSums<'_> {
    fn add(&mut self, tape: Tape, features: FeatureGradients, last: bool) -> Result<()> {
        if last { tape.backward_into(features, self) } else { self.before.add(tape.backward(features)?) }
    }
}

impl GradientSink for PassSums<'_> {
    fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        let sum = match self.before.take(name) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        self.sink.insert(name, sum)
    }
}

/// Joins the rows of all micro-batches in the order of the whole batch: original images, first views, second views.
fn joined(passed: &[&PassFeatures], parts: &[MicroBatch]) -> Result<PassFeatures> {
    let join = |of: &dyn Fn(&PassFeatures) -> Option<Tensor>| -> Result<Option<Tensor>> {
        let Some(tensors) = passed.iter().map(|passed| of(passed)).collect::<Option<Vec<Tensor>>>() else {
            return Ok(None);
        };
        join_rows(&tensors, parts).map(Some)
    };
    let missing = || Error::internal("a micro-batch has no features");
    let pooled = join(&|passed| Some(passed.pooled.clone()))?.ok_or_else(missing)?;
    let stages = passed.first().map_or(0, |passed| passed.stages.len());
    let stages = (0..stages).map(|stage| join(&|passed| passed.stages.get(stage)?.clone())).collect::<Result<_>>()?;
    Ok(PassFeatures { pooled, stages })
}

/// Joins the rows of all micro-batches, `kinds × samples` each and ordered by kind (original images, view 1, view 2),
/// into one tensor in the order of the whole batch, also ordered by kind.
pub(crate) fn join_rows(tensors: &[Tensor], parts: &[MicroBatch]) -> Result<Tensor> {
    let (Some(first), Some(part)) = (tensors.first(), parts.first()) else {
        return Err(Error::internal("a batch has no micro-batches"));
    };
    if tensors.len() == 1 {
        return Ok(first.clone());
    }
    let (kinds, images) = (first.dim(0)? / part.samples().max(1), part.batch.samples()?);
    // Row of each sample and kind among the joined tensors.
    let (mut rows, mut start) = (vec![0u32; kinds * images], 0);
    for part in parts {
        for kind in 0..kinds {
            for &sample in &part.samples {
                rows[kind * images + sample as usize] = start;
                start += 1;
            }
        }
    }
    rows_at(&Tensor::cat(tensors, 0)?, &rows)
}

/// Gradients of the rows of a micro-batch.
fn rows_of(FeatureGradients { pooled, stages }: &FeatureGradients, part: &MicroBatch) -> Result<FeatureGradients> {
    let images = part.batch.samples()?;
    let rows = |gradient: &Tensor| -> Result<Tensor> {
        let kinds = gradient.dim(0)? / images;
        let of_kind = |kind: usize| part.samples.iter().map(move |sample| (kind * images) as u32 + sample);
        rows_at(gradient, &(0..kinds).flat_map(of_kind).collect::<Vec<_>>())
    };
    let of = |gradient: &Option<Tensor>| gradient.as_ref().map(rows).transpose();
    Ok(FeatureGradients { pooled: of(pooled)?, stages: stages.iter().map(of).collect::<Result<_>>()? })
}
