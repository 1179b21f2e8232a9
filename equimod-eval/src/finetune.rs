//! Fine-tuning of the whole network with a linear layer on top, by the mean cross-entropy on all labels or a share of
//! them.
//!
//! The defaults are SimCLR's (Chen et al., arXiv 2002.05709, appendix B): Nesterov momentum 0.9, a learning rate of
//! 0.05 for batches of 256, no weight decay, only crops and flips. The learning rate decays to 0 along half a cosine.

use candle_core::{Tensor, Var};
use equimod_core::backbone::Backbone;
use equimod_core::nn::Linear;
use equimod_core::optim::{Schedule, SgdConfig, WarmupCosine};
use equimod_core::params::Gradients;
use equimod_core::tape::FeatureGradients;
use equimod_core::{Mode, Model, Normalization, Optimizer, OptimizerConfig, ParamStore};
use equimod_data::{LoaderConfig, Pixels};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;
use crate::supervised::{
    StepRecord, SupervisedTask, TrainedClassifier, TrainingProgress, check, loss_and_record, train,
};

/// Batch-norm statistics during fine-tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormStatistics {
    /// Statistics of the batch; running statistics are updated.
    #[default]
    Batch,
    /// Running statistics of pretraining, which stay fixed: better for small batches.
    Frozen,
}

/// Settings of fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinetuneConfig {
    /// Optimizer with its weight decay. Default: SGD with Nesterov momentum 0.9 and no weight decay.
    pub optimizer: OptimizerConfig,
    /// Highest learning rate, that of the linear layer; it is not scaled with the batch. Default: 0.05.
    pub learning_rate: f64,
    /// Epochs. Default: 30, as SimCLR for 10 % of the labels (60 for 1 %).
    pub epochs: usize,
    /// Epochs of linear warm-up. Default: 0.
    pub warmup_epochs: usize,
    /// Images a batch. The incomplete batch at the end of an epoch is dropped, unless it is the only one. Default: 256.
    pub batch: usize,
    /// Share of each class to train on, above 0 and at most 1; at least one image a class. Default: 1.
    pub label_fraction: f64,
    /// Layer-wise learning-rate decay d: the rate of the linear layer times d for stage 4, d² for stage 3, … and d⁵
    /// for the stem. Default: 1.
    pub layer_decay: f64,
    /// Batch-norm statistics in training. Default: those of the batch.
    pub batch_norm: BatchNormStatistics,
    /// Seed of the share of labels, the linear layer's initial weights, the order and the augmentation.
    pub seed: u64,
    /// Threads that decode and augment; results do not depend on them.
    pub threads: usize,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            optimizer: OptimizerConfig::Sgd(SgdConfig::default()),
            learning_rate: 0.05,
            epochs: 30,
            warmup_epochs: 0,
            batch: 256,
            label_fraction: 1.0,
            layer_decay: 1.0,
            batch_norm: BatchNormStatistics::Batch,
            seed: 0,
            threads: 2,
        }
    }
}

impl FinetuneConfig {
    fn check(&self) -> Result<()> {
        check(self.epochs, self.batch, &[self.learning_rate])?;
        if let Some(problem) = self.optimizer.validate().into_iter().next() {
            return refuse(problem);
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return refuse(format!(
                "the layer-wise learning-rate decay is {}; give a number above 0 and at most 1",
                self.layer_decay
            ));
        }
        match self.warmup_epochs < self.epochs {
            true => Ok(()),
            false => refuse(format!(
                "{} epochs of warm-up are not fewer than {} epochs in all; give fewer",
                self.warmup_epochs, self.epochs
            )),
        }
    }

    fn schedule(&self, batches: usize) -> WarmupCosine {
        let steps = |epochs: usize| (epochs * batches) as u64;
        let (warmup_steps, total_steps) = (steps(self.warmup_epochs), steps(self.epochs));
        WarmupCosine { base: self.learning_rate, last: 0.0, warmup_steps, total_steps }
    }

    fn loading(&self, images: usize) -> LoaderConfig {
        LoaderConfig {
            seed: self.seed,
            batch: self.batch,
            threads: self.threads,
            keep_remainder: images < self.batch,
            ..LoaderConfig::default()
        }
    }
}

/// Name prefix of the linear layer's parameters.
const HEAD: &str = "head";

/// Depth of a parameter: 0 for the linear layer, 1 for stage 4 to 4 for stage 1, 5 for the stem.
fn depth(name: &str) -> usize {
    if name.starts_with("head.") {
        return 0;
    }
    let stage = name.strip_prefix("layer").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    DEPTHS - 1 - stage.unwrap_or(0).min(DEPTHS - 2)
}

/// Number of depths: the linear layer, four stages, the stem.
const DEPTHS: usize = 6;

/// An optimizer for the parameters of each depth.
struct Optimizers {
    of_depth: Vec<Box<dyn Optimizer>>,
    decay: f64,
}

impl Optimizers {
    fn new(config: &FinetuneConfig) -> Self {
        Self { of_depth: (0..DEPTHS).map(|_| config.optimizer.build()).collect(), decay: config.layer_decay }
    }

    /// Updates parameters at depth k with the learning rate `rate·dᵏ`.
    fn step(&mut self, params: &ParamStore, mut gradients: Gradients, rate: f64) -> Result<()> {
        let mut of_depth = vec![Gradients::default(); DEPTHS];
        for (name, _) in params.trainable() {
            if let Some(gradient) = gradients.take(name) {
                of_depth[depth(name)].insert(name, gradient)?;
            }
        }
        for (depth, (optimizer, mut gradients)) in self.of_depth.iter_mut().zip(of_depth).enumerate() {
            optimizer.step(params, &mut gradients, rate * self.decay.powi(depth as i32))?;
        }
        Ok(())
    }
}

/// A backbone with a linear layer on top, both trained.
struct Classifier {
    params: ParamStore,
    backbone: Box<dyn Backbone>,
    head: Linear,
    normalization: Normalization,
    mode: Mode,
}

impl Classifier {
    fn new(model: &Model, classes: usize, config: &FinetuneConfig) -> Result<Self> {
        let (backbone, mut params) = model.backbone_copy(config.seed)?;
        let head = Linear::new(backbone.features(), classes, true, &mut params.root().scope(HEAD))?;
        let mode = match config.batch_norm {
            BatchNormStatistics::Batch => Mode::Train,
            BatchNormStatistics::Frozen => Mode::Eval,
        };
        Ok(Self { params, backbone, head, normalization: model.preprocessing.normalization, mode })
    }

    fn images(&self, pixels: &Pixels) -> Result<Tensor> {
        let size = (pixels.count, pixels.size.height, pixels.size.width);
        Ok(self.normalization.tensor(&pixels.bytes, size, self.params.device(), self.params.dtype())?)
    }

    /// The gradients of every parameter: candle differentiates down to the features, the tape from there on.
    fn gradients(&self, pixels: &Pixels, labels: &[u32], rate: f64) -> Result<(Gradients, StepRecord)> {
        let (features, tape) = self.backbone.forward(&self.images(pixels)?, self.mode)?;
        let leaf = Var::from_tensor(&features.pooled)?;
        drop(features);
        let (loss, record) = loss_and_record(&self.head.forward(&leaf)?, labels, rate)?;
        let mut store = loss.backward()?;
        let pooled = store.remove(leaf.as_tensor()).map(|gradient| gradient.contiguous()).transpose()?;
        let mut gradients = tape.backward(FeatureGradients { pooled, stages: Vec::new() })?;
        for (name, slot) in self.params.trainable() {
            if let Some(gradient) = store.remove(slot.var.as_tensor()) {
                gradients.insert(name, gradient)?;
            }
        }
        Ok((gradients, record))
    }

    /// Logits `[images, classes]` in evaluation mode.
    fn logits(&self, pixels: &Pixels) -> Result<Tensor> {
        let features = self.backbone.infer(&self.images(pixels)?, Mode::Eval)?;
        Ok(self.head.forward(&features.pooled)?.detach())
    }
}

/// Fine-tunes a copy of `model`'s backbone. `progress` is called after each step.
///
/// # Errors
/// If a setting is invalid, if too many images do not decode, or if the loss is not finite.
pub fn finetune(
    model: &Model,
    task: &SupervisedTask,
    config: &FinetuneConfig,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<TrainedClassifier> {
    config.check()?;
    let task = task.with_fraction(config.label_fraction, config.seed)?;
    let images = task.training_images();
    let classifier = Classifier::new(model, task.classes(), config)?;
    let loader = task.loader(&config.loading(images))?;
    let (mut optimizers, schedule) = (Optimizers::new(config), config.schedule(loader.batches()));
    let mut batches = loader.start(0)?;
    let curve = train(config.epochs, loader.batches(), progress, &mut |step| {
        let Some(batch) = batches.next().transpose()? else {
            return refuse("the data loader ended before the training; report this as a bug");
        };
        let (labels, rate) = (task.labels(&batch.indices), schedule.rate(step));
        let (gradients, record) = classifier.gradients(&batch.views[0], &labels, rate)?;
        batches.recycle(batch);
        optimizers.step(&classifier.params, gradients, rate)?;
        Ok(record)
    })?;
    let predictions = task.predict(&mut |pixels| classifier.logits(pixels))?;
    Ok(TrainedClassifier { predictions, curve, images })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_count_from_the_linear_layer_down() {
        let names = ["head.weight", "layer4.1.bn2.bias", "layer3.0.conv1.weight", "layer1.0.bn1.weight", "bn1.bias"];
        assert_eq!(names.map(depth), [0, 1, 2, 4, 5]);
        assert_eq!(depth("conv1.weight"), 5);
    }

    #[test]
    fn invalid_settings_are_refused() {
        let fine = FinetuneConfig::default();
        assert!(fine.check().is_ok());
        for wrong in [
            FinetuneConfig { epochs: 0, ..fine.clone() },
            FinetuneConfig { warmup_epochs: 30, ..fine.clone() },
            FinetuneConfig { layer_decay: 0.0, ..fine.clone() },
            FinetuneConfig { learning_rate: f64::NAN, ..fine.clone() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
