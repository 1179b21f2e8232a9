//! Common parts of the protocols that train a classifier on images: labeled images, their augmentation, and the
//! training loop.
//!
//! Training uses a random resized crop of 8 to 100 % of the area and a horizontal flip. The test uses the transform
//! of the task, in the published protocol an inset crop. Resizing is bicubic.

use std::sync::Arc;

use candle_core::{D, Tensor};
use equimod_core::SingleProcess;
use equimod_core::equivariance::cross_entropy;
use equimod_data::augment::{HorizontalFlip, RandomResizedCrop};
use equimod_data::resample::Filter;
use equimod_data::{
    AugmentationConfig, CleanView, Dataset, Encoding, Image, Loader, LoaderConfig, ParamLayout, Pixels, Policy,
    Statistics, Subset, ViewPolicy,
};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::refuse;
use crate::features::load_inputs;
use crate::{InputTransform, Predictions, Result};

/// Test images a forward pass.
const TEST_BATCH: usize = 128;

/// Labeled images to train on and to test on, with the same classes.
pub struct SupervisedTask {
    train: LabeledImages,
    test: LabeledImages,
    classes: usize,
    input: InputTransform,
}

/// Images of a data set with a label each.
#[derive(Clone)]
pub struct LabeledImages {
    images: Arc<Subset>,
    labels: Vec<u32>,
}

impl LabeledImages {
    /// The images at `indices` of a data set with their labels.
    ///
    /// # Errors
    /// If there are none, if an index is outside of the data set, or if the numbers of indices and labels differ.
    pub fn new(dataset: &Arc<dyn Dataset>, indices: Vec<usize>, labels: Vec<u32>) -> Result<Self> {
        if indices.len() != labels.len() {
            return refuse(format!("{} images have {} labels", indices.len(), labels.len()));
        }
        Ok(Self { images: Arc::new(Subset::new(dataset.clone(), indices)?), labels })
    }

    fn select(&self, indices: Vec<usize>) -> Result<Self> {
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Ok(Self { images: Arc::new(Subset::new(self.images.clone(), indices)?), labels })
    }
}

impl SupervisedTask {
    /// A task of `classes` classes. Test images are transformed by `input`, training images by a random crop to its
    /// size.
    ///
    /// # Errors
    /// If a label is not below `classes`.
    pub fn new(train: LabeledImages, test: LabeledImages, classes: usize, input: InputTransform) -> Result<Self> {
        let wrong = train.labels.iter().chain(&test.labels).find(|&&label| label as usize >= classes);
        match wrong {
            Some(label) => refuse(format!("an image has the label {label}, and there are {classes} classes")),
            None => Ok(Self { train, test, classes, input }),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of training images.
    pub fn training_images(&self) -> usize {
        self.train.images.len()
    }

    /// The same task with the share `fraction` of the training images of each class, drawn from `seed`; at least one
    /// image of each class that has any.
    ///
    /// # Errors
    /// If the share is not above 0 and at most 1.
    pub fn with_fraction(&self, fraction: f64, seed: u64) -> Result<Self> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return refuse(format!("the share of labels is {fraction}; give a number above 0 and at most 1"));
        }
        let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); self.classes];
        (0..self.training_images()).for_each(|index| of_class[self.train.labels[index] as usize].push(index));
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut chosen = Vec::new();
        for mut indices in of_class.into_iter().filter(|indices| !indices.is_empty()) {
            indices.shuffle(&mut generator);
            indices.truncate(((indices.len() as f64 * fraction).round() as usize).max(1));
            chosen.extend(indices);
        }
        chosen.sort_unstable();
        Ok(Self { train: self.train.select(chosen)?, test: self.test.clone(), ..*self })
    }

    /// A loader of augmented training images.
    pub(crate) fn loader(&self, config: &LoaderConfig) -> Result<Loader> {
        let config = LoaderConfig { params: false, ..config.clone() };
        Ok(Loader::new(self.train.images.clone(), training_policy(self.input.size), no_parameters(), &config)?)
    }

    /// The labels of the training images at `indices`.
    pub(crate) fn labels(&self, indices: &[usize]) -> Vec<u32> {
        indices.iter().map(|&index| self.train.labels[index]).collect()
    }

    /// Predictions for the test images that decode; `logits` gives `[images, classes]` for pixels.
    pub(crate) fn predict(&self, logits: &mut dyn FnMut(&Pixels) -> Result<Tensor>) -> Result<Predictions> {
        let (mut scores, mut labels, mut tested) = (Vec::new(), Vec::new(), Vec::new());
        let indices: Vec<usize> = (0..self.test.images.len()).collect();
        for batch in indices.chunks(TEST_BATCH) {
            let images = load_inputs(self.test.images.as_ref(), batch, self.input)?;
            let decoded = batch.iter().zip(images).filter_map(|(&index, image)| Some((index, image?)));
            let (decoded, images): (Vec<usize>, Vec<Image>) = decoded.unzip();
            let Some(first) = images.first() else { continue };
            let bytes = images.iter().flat_map(|image| image.pixels()).copied().collect();
            let pixels = Pixels { count: images.len(), size: first.size(), bytes };
            scores.extend(logits(&pixels)?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from));
            labels.extend(decoded.iter().map(|&index| self.test.labels[index]));
            tested.extend(decoded.iter().map(|&index| self.test.images.indices()[index]));
        }
        if labels.is_empty() {
            return refuse("no test image decodes; check the data set");
        }
        Predictions::from_logits(scores, labels, tested, self.classes)
    }
}

/// A policy of one view: a random resized crop to `side` pixels and a horizontal flip.
pub fn training_policy(side: usize) -> Policy {
    let crop =
        RandomResizedCrop { size: side, scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bicubic };
    let flip = HorizontalFlip { probability: 0.5 };
    let clean = CleanView { resize: InputTransform::inset(side), crop: side, filter: Filter::Bicubic };
    let view = vec![AugmentationConfig::RandomResizedCrop(crop), AugmentationConfig::HorizontalFlip(flip)];
    Policy { name: "linear-evaluation".into(), views: vec![ViewPolicy(view)], clean }
}

/// The layout of batches without parameters.
fn no_parameters() -> ParamLayout {
    let (names, mean, std, neutral) = Default::default();
    ParamLayout { encoding: Encoding::Published, statistics: Statistics::Computed, names, mean, std, neutral }
}

/// Progress of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingProgress {
    /// Number of steps done.
    pub step: u64,
    /// Total number of steps.
    pub steps: u64,
    /// Cross-entropy of the last step.
    pub loss: f64,
}

/// Loss and accuracy over one epoch. Each image is evaluated before the step on its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochRecord {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Top-1 accuracy.
    pub accuracy: f64,
}

/// Loss, learning rate and accuracy over a training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingCurve {
    /// Mean cross-entropy of each step's batch, in nats.
    pub losses: Vec<f64>,
    /// Learning rate of each step.
    pub rates: Vec<f64>,
    /// Loss and accuracy of each epoch.
    pub epochs: Vec<EpochRecord>,
}

/// The result of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedClassifier {
    /// Predictions for the test images that decode, after the last epoch.
    pub predictions: Predictions,
    /// Loss, learning rate and accuracy over the training.
    pub curve: TrainingCurve,
    /// Number of labeled training images.
    pub images: usize,
}

/// Loss and accuracy of the batch of one step, before its update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepRecord {
    pub rate: f64,
    pub loss: f64,
    pub correct: usize,
    pub images: usize,
}

/// Takes `epochs × batches` steps, counted from 0, and collects their records.
pub(crate) fn train(
    epochs: usize,
    batches: usize,
    progress: &mut dyn FnMut(TrainingProgress),
    step: &mut dyn FnMut(u64) -> Result<StepRecord>,
) -> Result<TrainingCurve> {
    let mut curve = TrainingCurve::default();
    let steps = (epochs * batches) as u64;
    for epoch in 0..epochs {
        let (mut sum, mut correct, mut images) = (0.0, 0, 0);
        for batch in 0..batches {
            let number = (epoch * batches + batch) as u64;
            let record = step(number)?;
            if !record.loss.is_finite() {
                return refuse(format!("the loss of step {number} is {}; lower the learning rate", record.loss));
            }
            sum += record.loss * record.images as f64;
            correct += record.correct;
            images += record.images;
            curve.losses.push(record.loss);
            curve.rates.push(record.rate);
            progress(TrainingProgress { step: number + 1, steps, loss: record.loss });
        }
        let count = images.max(1) as f64;
        curve.epochs.push(EpochRecord { loss: sum / count, accuracy: correct as f64 / count });
    }
    Ok(curve)
}

/// The mean cross-entropy of logits `[images, classes]`, a tensor to differentiate, and its record.
pub(crate) fn loss_and_record(logits: &Tensor, labels: &[u32], rate: f64) -> Result<(Tensor, StepRecord)> {
    let classes = Tensor::from_slice(labels, labels.len(), logits.device())?;
    let loss = cross_entropy(logits, &classes, SingleProcess::shared().as_ref())?;
    let predicted = logits.detach().argmax(D::Minus1)?.to_vec1::<u32>()?;
    let correct = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    let value = loss.detach().to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
    Ok((loss, StepRecord { rate, loss: value, correct, images: labels.len() }))
}

/// Refuses numbers that cannot be trained with.
pub(crate) fn check(epochs: usize, batch: usize, rates: &[f64]) -> Result<()> {
    if epochs == 0 || batch == 0 {
        return refuse(format!("{epochs} epochs of batches of {batch} images train nothing; give at least 1 of each"));
    }
    match rates.iter().find(|rate| !rate.is_finite() || **rate < 0.0) {
        Some(rate) => refuse(format!("a learning rate is {rate}; give a finite number of at least 0")),
        None => Ok(()),
    }
}
