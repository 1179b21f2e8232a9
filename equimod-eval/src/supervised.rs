//! What protocols that train a classifier on pictures have in common: the pictures and their labels, the views of the
//! published linear evaluation (method, section 5), and what is reported of a training.
//!
//! To train on: a random resized crop of 8 to 100 % of the area and a flip. To test on: as the input says, by the published
//! protocol an inset crop; bicubic throughout.

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
use crate::features::seen;
use crate::{Input, Predictions, Result};

/// Test pictures that go through the network together.
const TEST_BATCH: usize = 128;

/// Labelled pictures to train on and others to test on, with the same classes.
pub struct SupervisedTask {
    train: LabelledPictures,
    test: LabelledPictures,
    classes: usize,
    input: Input,
}

/// Pictures of a data set with a label each.
#[derive(Clone)]
pub struct LabelledPictures {
    pictures: Arc<Subset>,
    labels: Vec<u32>,
}

impl LabelledPictures {
    /// The pictures at `places` of a data set, and the label of each.
    ///
    /// # Errors
    /// If there are none, if a place is not in the data set, or if the numbers of places and labels differ.
    pub fn new(dataset: &Arc<dyn Dataset>, places: Vec<usize>, labels: Vec<u32>) -> Result<Self> {
        if places.len() != labels.len() {
            return refuse(format!("{} pictures have {} labels", places.len(), labels.len()));
        }
        Ok(Self { pictures: Arc::new(Subset::new(dataset.clone(), places)?), labels })
    }

    fn select(&self, places: Vec<usize>) -> Result<Self> {
        let labels = places.iter().map(|&place| self.labels[place]).collect();
        Ok(Self { pictures: Arc::new(Subset::new(self.pictures.clone(), places)?), labels })
    }
}

impl SupervisedTask {
    /// Pictures of `classes` classes, brought to `input`, in training by a random crop.
    ///
    /// # Errors
    /// If a label is not below `classes`.
    pub fn new(train: LabelledPictures, test: LabelledPictures, classes: usize, input: Input) -> Result<Self> {
        let wrong = train.labels.iter().chain(&test.labels).find(|&&label| label as usize >= classes);
        match wrong {
            Some(label) => refuse(format!("a picture has the label {label}, and there are {classes} classes")),
            None => Ok(Self { train, test, classes, input }),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of pictures to train on.
    pub fn training_pictures(&self) -> usize {
        self.train.pictures.len()
    }

    /// The same test with the share `fraction` of each class to train on, drawn from `seed`; at least one picture of each
    /// class that has any.
    pub fn with_fraction(&self, fraction: f64, seed: u64) -> Result<Self> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return refuse(format!("the share of labels is {fraction}; give a number above 0 and at most 1"));
        }
        let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); self.classes];
        (0..self.training_pictures()).for_each(|place| of_class[self.train.labels[place] as usize].push(place));
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut kept = Vec::new();
        for mut places in of_class.into_iter().filter(|places| !places.is_empty()) {
            places.shuffle(&mut generator);
            places.truncate(((places.len() as f64 * fraction).round() as usize).max(1));
            kept.extend(places);
        }
        kept.sort_unstable();
        Ok(Self { train: self.train.select(kept)?, test: self.test.clone(), ..*self })
    }

    /// Batches of training views.
    pub(crate) fn loader(&self, config: &LoaderConfig) -> Result<Loader> {
        let config = LoaderConfig { params: false, ..config.clone() };
        Ok(Loader::new(self.train.pictures.clone(), training_policy(self.input.size), no_parameters(), &config)?)
    }

    /// The labels of training pictures at these places.
    pub(crate) fn labels(&self, places: &[usize]) -> Vec<u32> {
        places.iter().map(|&place| self.train.labels[place]).collect()
    }

    /// What `logits` (`[pictures, classes]` of pixels) says of the test pictures that decode.
    pub(crate) fn predict(&self, logits: &mut dyn FnMut(&Pixels) -> Result<Tensor>) -> Result<Predictions> {
        let (mut scores, mut labels, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        let places: Vec<usize> = (0..self.test.pictures.len()).collect();
        for batch in places.chunks(TEST_BATCH) {
            let images = seen(self.test.pictures.as_ref(), batch, self.input)?;
            let decoded = batch.iter().zip(images).filter_map(|(&place, image)| Some((place, image?)));
            let (decoded, images): (Vec<usize>, Vec<Image>) = decoded.unzip();
            let Some(first) = images.first() else { continue };
            let bytes = images.iter().flat_map(|image| image.pixels()).copied().collect();
            let pixels = Pixels { count: images.len(), size: first.size(), bytes };
            scores.extend(logits(&pixels)?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from));
            labels.extend(decoded.iter().map(|&place| self.test.labels[place]));
            pictures.extend(decoded.iter().map(|&place| self.test.pictures.indices()[place]));
        }
        if labels.is_empty() {
            return refuse("none of the test pictures decodes; check the data set");
        }
        Predictions::from_logits(scores, labels, pictures, self.classes)
    }
}

/// One view: a random resized crop and a flip.
pub fn training_policy(side: usize) -> Policy {
    let crop =
        RandomResizedCrop { size: side, scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bicubic };
    let flip = HorizontalFlip { probability: 0.5 };
    let clean = CleanView { resize: Input::inset(side), crop: side, filter: Filter::Bicubic };
    let view = vec![AugmentationConfig::RandomResizedCrop(crop), AugmentationConfig::HorizontalFlip(flip)];
    Policy { name: "linear-evaluation".into(), views: vec![ViewPolicy(view)], clean }
}

/// A layout for batches that hold no parameters.
fn no_parameters() -> ParamLayout {
    let (names, mean, std, neutral) = Default::default();
    ParamLayout { encoding: Encoding::Published, statistics: Statistics::Computed, names, mean, std, neutral }
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps that are done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Cross-entropy of the last one.
    pub loss: f64,
}

/// One epoch of a training. Each picture counts as the classifier was before the step on its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochRecord {
    /// Mean cross-entropy of the pictures, in nats.
    pub loss: f64,
    /// The share of the pictures that was right.
    pub accuracy: f64,
}

/// How a training went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingCurve {
    /// Mean cross-entropy of each step's batch, in nats.
    pub losses: Vec<f64>,
    /// The learning rate of each step.
    pub rates: Vec<f64>,
    /// Each epoch.
    pub epochs: Vec<EpochRecord>,
}

/// What a training gave.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisedOutcome {
    /// Of the test pictures that decode, after the last epoch.
    pub predictions: Predictions,
    /// How the training went.
    pub curve: TrainingCurve,
    /// Labelled pictures that were trained on.
    pub pictures: usize,
}

/// What one step found, before it changed anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepRecord {
    pub rate: f64,
    pub loss: f64,
    pub right: usize,
    pub pictures: usize,
}

/// Takes `epochs × batches` steps, counted from 0, and keeps what they found.
pub(crate) fn train(
    epochs: usize,
    batches: usize,
    progress: &mut dyn FnMut(Progress),
    step: &mut dyn FnMut(u64) -> Result<StepRecord>,
) -> Result<TrainingCurve> {
    let mut curve = TrainingCurve::default();
    let steps = (epochs * batches) as u64;
    for epoch in 0..epochs {
        let (mut sum, mut right, mut pictures) = (0.0, 0, 0);
        for batch in 0..batches {
            let number = (epoch * batches + batch) as u64;
            let found = step(number)?;
            if !found.loss.is_finite() {
                return refuse(format!("the loss of step {number} is {}; lower the learning rate", found.loss));
            }
            (sum, right) = (sum + found.loss * found.pictures as f64, right + found.right);
            pictures += found.pictures;
            curve.losses.push(found.loss);
            curve.rates.push(found.rate);
            progress(Progress { step: number + 1, steps, loss: found.loss });
        }
        let count = pictures.max(1) as f64;
        curve.epochs.push(EpochRecord { loss: sum / count, accuracy: right as f64 / count });
    }
    Ok(curve)
}

/// The mean cross-entropy of logits `[pictures, classes]`, to be differentiated, and what to keep of it.
pub(crate) fn judge(logits: &Tensor, labels: &[u32], rate: f64) -> Result<(Tensor, StepRecord)> {
    let classes = Tensor::from_slice(labels, labels.len(), logits.device())?;
    let loss = cross_entropy(logits, &classes, SingleProcess::shared().as_ref())?;
    let said = logits.detach().argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = said.iter().zip(labels).filter(|(said, label)| said == label).count();
    let value = loss.detach().to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
    Ok((loss, StepRecord { rate, loss: value, right, pictures: labels.len() }))
}

/// What is wrong with the numbers of a training, as an error.
pub(crate) fn check(epochs: usize, batch: usize, rates: &[f64]) -> Result<()> {
    if epochs == 0 || batch == 0 {
        return refuse(format!("{epochs} epochs of batches of {batch} train nothing; give at least 1 of each"));
    }
    match rates.iter().find(|rate| !rate.is_finite() || **rate < 0.0) {
        Some(rate) => refuse(format!("a learning rate is {rate}; give a finite number of at least 0")),
        None => Ok(()),
    }
}
