//! The published linear evaluation (method, section 5): a linear layer with bias on the frozen backbone's features,
//! `mean cross-entropy` minimised by SGD with Nesterov's momentum, the rate falling along half a cosine at each step.
//!
//! Views are drawn anew each epoch, so that the features are computed as often; the accuracy is the last epoch's.

use candle_core::{DType, Device, Tensor};
use equimod_core::nn::Linear;
use equimod_core::optim::{Schedule, Sgd, SgdConfig, WarmupCosine};
use equimod_core::params::Gradients;
use equimod_core::{Model, Optimizer, ParamStore};
use equimod_data::{LoaderConfig, Pixels};
use serde::{Deserialize, Serialize};

use crate::error::refuse;
use crate::supervised::{Progress, StepRecord, SupervisedOutcome, SupervisedTask, TrainingCurve, check, judge, train};
use crate::{Labelled, Predictions, Result};

/// Settings of the linear evaluation; by default the published ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearConfig {
    /// Passes over the training pictures. Published: 90.
    pub epochs: usize,
    /// Pictures a step; the smaller batch that is left at the end of an epoch is used too. Published: 256.
    pub batch: usize,
    /// Learning rate of the first step. Published: 0.2.
    pub learning_rate: f64,
    /// Where the rate falls to. Published: 1e-4.
    pub final_learning_rate: f64,
    /// Nesterov momentum. Published: 0.9.
    pub momentum: f64,
    /// Decides initial weights, order and views.
    pub seed: u64,
    /// Threads that decode and augment; they change nothing but the time.
    pub threads: usize,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self {
            epochs: 90,
            batch: 256,
            learning_rate: 0.2,
            final_learning_rate: 1e-4,
            momentum: 0.9,
            seed: 0,
            threads: 2,
        }
    }
}

/// A linear layer with bias: features `[rows, features]` → logits `[rows, classes]`.
pub struct LinearHead {
    params: ParamStore,
    layer: Linear,
    classes: usize,
}

impl LinearHead {
    /// PyTorch's default initial weights, drawn from `seed`.
    pub fn new(features: usize, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let mut params = ParamStore::new(seed, DType::F32, device);
        let layer = Linear::new(features, classes, true, &mut params.root())?;
        Ok(Self { params, layer, classes })
    }

    /// A layer with these weights `[classes, features]` and biases `[classes]`.
    pub fn with_weights(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (classes, features) = weight.dims2()?;
        let head = Self::new(features, classes, 0, weight.device())?;
        for (name, values) in [("weight", weight), ("bias", bias)] {
            match head.params.get(name) {
                Some(slot) => slot.var.set(&values.to_dtype(DType::F32)?)?,
                None => return refuse(format!("a linear layer has no {name}")),
            }
        }
        Ok(head)
    }

    /// The weights `[classes, features]`.
    pub fn weight(&self) -> Option<Tensor> {
        self.params.get("weight").map(|slot| slot.var.as_detached_tensor())
    }

    /// The biases `[classes]`.
    pub fn bias(&self) -> Option<Tensor> {
        self.params.get("bias").map(|slot| slot.var.as_detached_tensor())
    }

    /// Logits `[rows, classes]` of features `[rows, features]`.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        Ok(self.layer.forward(features)?.detach())
    }

    /// What the layer says of features that were computed.
    pub fn predict(&self, data: &Labelled) -> Result<Predictions> {
        let logits = self.logits(&rows(data, None, self.params.device())?)?.flatten_all()?.to_vec1::<f32>()?;
        let logits = logits.into_iter().map(f64::from).collect();
        Predictions::from_logits(logits, data.labels.clone(), data.pictures.clone(), self.classes)
    }

    /// One step on features `[rows, features]`.
    fn step(&self, sgd: &mut Sgd, features: &Tensor, labels: &[u32], rate: f64) -> Result<StepRecord> {
        let (loss, record) = judge(&self.layer.forward(features)?, labels, rate)?;
        let mut store = loss.backward()?;
        let mut gradients = Gradients::default();
        for (name, slot) in self.params.trainable() {
            if let Some(gradient) = store.remove(slot.var.as_tensor()) {
                gradients.insert(name, gradient)?;
            }
        }
        sgd.step(&self.params, &mut gradients, rate)?;
        Ok(record)
    }
}

impl LinearConfig {
    fn optimiser(&self) -> Sgd {
        Sgd::new(SgdConfig { momentum: self.momentum, nesterov: true, ..SgdConfig::default() })
    }

    /// `last + (base − last)·(1 + cos(πk/K))/2` at step k of K.
    fn schedule(&self, batches: usize) -> WarmupCosine {
        let total_steps = (self.epochs * batches) as u64;
        WarmupCosine { base: self.learning_rate, last: self.final_learning_rate, warmup_steps: 0, total_steps }
    }

    fn check(&self) -> Result<()> {
        check(self.epochs, self.batch, &[self.learning_rate, self.final_learning_rate])
    }
}

/// Rows of `data`, all or those at `places`, `[rows, features]`.
fn rows(data: &Labelled, places: Option<&[usize]>, device: &Device) -> Result<Tensor> {
    let features = match places {
        Some(places) => &data.features.select(places),
        None => &data.features,
    };
    Ok(Tensor::from_slice(features.values(), (features.rows(), features.columns()), device)?)
}

/// Trains `head` on features that stay the same; `order` gives the order of the rows in each epoch, from 0.
pub fn train_on_features(
    head: &LinearHead,
    data: &Labelled,
    config: &LinearConfig,
    order: &dyn Fn(u64) -> Vec<usize>,
    progress: &mut dyn FnMut(Progress),
) -> Result<TrainingCurve> {
    config.check()?;
    let batches = data.labels.len().div_ceil(config.batch);
    let (mut sgd, schedule) = (config.optimiser(), config.schedule(batches));
    let mut current = Vec::new();
    train(config.epochs, batches, progress, &mut |step| {
        let batch = step as usize % batches;
        if batch == 0 {
            current = order(step / batches as u64);
        }
        let Some(places) = current.chunks(config.batch).nth(batch) else {
            return refuse(format!("an epoch's order holds {} rows, not {}", current.len(), data.labels.len()));
        };
        let labels: Vec<u32> = places.iter().map(|&place| data.labels[place]).collect();
        head.step(&mut sgd, &rows(data, Some(places), head.params.device())?, &labels, schedule.rate(step))
    })
}

/// The linear evaluation of `model` on pictures. The model is not changed.
///
/// # Errors
/// If a setting cannot be, if too many pictures do not decode, or if the loss is no longer a number.
pub fn linear(
    model: &Model,
    task: &SupervisedTask,
    config: &LinearConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<SupervisedOutcome> {
    config.check()?;
    let head = LinearHead::new(model.backbone().features(), task.classes(), config.seed, model.params().device())?;
    let features = |pixels: &Pixels| -> Result<Tensor> {
        let size = (pixels.count, pixels.size.height, pixels.size.width);
        Ok(model.features(&pixels.bytes, size)?.pooled.detach())
    };
    let loading = LoaderConfig {
        seed: config.seed,
        batch: config.batch,
        threads: config.threads,
        keep_remainder: true,
        ..LoaderConfig::default()
    };
    let loader = task.loader(&loading)?;
    let (mut sgd, schedule) = (config.optimiser(), config.schedule(loader.batches()));
    let mut batches = loader.start(0)?;
    let curve = train(config.epochs, loader.batches(), progress, &mut |step| {
        let Some(batch) = batches.next().transpose()? else { return refuse("the pictures ended before the training") };
        let record =
            head.step(&mut sgd, &features(&batch.views[0])?, &task.labels(&batch.indices), schedule.rate(step));
        batches.recycle(batch);
        record
    })?;
    let predictions = task.predict(&mut |pixels| head.logits(&features(pixels)?))?;
    Ok(SupervisedOutcome { predictions, curve, pictures: task.training_pictures() })
}
