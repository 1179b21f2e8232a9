//! The published linear evaluation (EquiMod, arXiv 2211.01244): a linear layer with bias on frozen features, trained
//! with the mean cross-entropy by SGD with Nesterov momentum and a learning rate that decays along half a cosine.
//!
//! Every epoch augments the images anew, so that features are computed in every epoch. The accuracy is that after the
//! last epoch.

use candle_core::{DType, Device, Tensor};
use equimod_core::nn::Linear;
use equimod_core::optim::{Schedule, Sgd, SgdConfig, WarmupCosine};
use equimod_core::params::Gradients;
use equimod_core::{Model, Optimizer, ParamStore};
use equimod_data::{LoaderConfig, Pixels};
use serde::{Deserialize, Serialize};

use crate::error::refuse;
use crate::supervised::{
    StepRecord, SupervisedTask, TrainedClassifier, TrainingCurve, TrainingProgress, check, loss_and_record, train,
};
use crate::{Labeled, Predictions, Result};

/// Settings of the linear evaluation; the defaults are the published ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearConfig {
    /// Epochs. Published: 90.
    pub epochs: usize,
    /// Images a batch; the incomplete batch at the end of an epoch is used too. Published: 256.
    pub batch: usize,
    /// Learning rate of the first step. Published: 0.2.
    pub learning_rate: f64,
    /// Final learning rate. Published: 1e-4.
    pub final_learning_rate: f64,
    /// Nesterov momentum. Published: 0.9.
    pub momentum: f64,
    /// Seed of initial weights, order and augmentation.
    pub seed: u64,
    /// Threads that decode and augment; results do not depend on them.
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
    /// A layer with PyTorch's default initialization, drawn from `seed`.
    ///
    /// # Errors
    /// If tensors cannot be made on the device.
    pub fn new(features: usize, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let mut params = ParamStore::new(seed, DType::F32, device);
        let layer = Linear::new(features, classes, true, &mut params.root())?;
        Ok(Self { params, layer, classes })
    }

    /// A layer with weights `[classes, features]` and biases `[classes]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn with_weights(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (classes, features) = weight.dims2()?;
        let head = Self::new(features, classes, 0, weight.device())?;
        for (name, values) in [("weight", weight), ("bias", bias)] {
            match head.params.get(name) {
                Some(slot) => slot.var.set(&values.to_dtype(DType::F32)?)?,
                None => return refuse(format!("a linear layer has no parameter {name}")),
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
    ///
    /// # Errors
    /// If the number of features is another than that of the layer.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        Ok(self.layer.forward(features)?.detach())
    }

    /// Probabilities of the classes of each row of `data`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), and if a logit is not finite.
    pub fn predict(&self, data: &Labeled) -> Result<Predictions> {
        let logits = self.logits(&rows(data, None, self.params.device())?)?.flatten_all()?.to_vec1::<f32>()?;
        let logits = logits.into_iter().map(f64::from).collect();
        Predictions::from_logits(logits, data.labels.clone(), data.indices.clone(), self.classes)
    }

    /// One SGD step on features `[rows, features]`.
    fn step(&self, sgd: &mut Sgd, features: &Tensor, labels: &[u32], rate: f64) -> Result<StepRecord> {
        let (loss, record) = loss_and_record(&self.layer.forward(features)?, labels, rate)?;
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
    fn optimizer(&self) -> Sgd {
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

/// Features `[rows, features]` of all rows of `data` or those at `indices`.
fn rows(data: &Labeled, indices: Option<&[usize]>, device: &Device) -> Result<Tensor> {
    let features = match indices {
        Some(indices) => &data.features.select(indices),
        None => &data.features,
    };
    Ok(Tensor::from_slice(features.values(), (features.rows(), features.columns()), device)?)
}

/// Trains `head` on fixed features. `order` gives the order of the rows in each epoch, counted from 0; `progress` is
/// called after each step.
///
/// # Errors
/// If a setting is invalid, if an order has too few rows, or if the loss is not finite.
pub fn train_on_features(
    head: &LinearHead,
    data: &Labeled,
    config: &LinearConfig,
    order: &dyn Fn(u64) -> Vec<usize>,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<TrainingCurve> {
    config.check()?;
    let batches = data.labels.len().div_ceil(config.batch);
    let (mut sgd, schedule) = (config.optimizer(), config.schedule(batches));
    let mut current = Vec::new();
    train(config.epochs, batches, progress, &mut |step| {
        let batch = step as usize % batches;
        if batch == 0 {
            current = order(step / batches as u64);
        }
        let Some(indices) = current.chunks(config.batch).nth(batch) else {
            return refuse(format!(
                "the order of an epoch has {} rows instead of {}",
                current.len(),
                data.labels.len()
            ));
        };
        let labels: Vec<u32> = indices.iter().map(|&index| data.labels[index]).collect();
        head.step(&mut sgd, &rows(data, Some(indices), head.params.device())?, &labels, schedule.rate(step))
    })
}

/// The linear evaluation of `model` on images. `progress` is called after each step.
///
/// # Errors
/// If a setting is invalid, if too many images do not decode, or if the loss is not finite.
pub fn linear(
    model: &Model,
    task: &SupervisedTask,
    config: &LinearConfig,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<TrainedClassifier> {
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
    let (mut sgd, schedule) = (config.optimizer(), config.schedule(loader.batches()));
    let mut batches = loader.start(0)?;
    let curve = train(config.epochs, loader.batches(), progress, &mut |step| {
        let Some(batch) = batches.next().transpose()? else {
            return refuse("the data loader ended before the training; report this as a bug");
        };
        let record =
            head.step(&mut sgd, &features(&batch.views[0])?, &task.labels(&batch.indices), schedule.rate(step));
        batches.recycle(batch);
        record
    })?;
    let predictions = task.predict(&mut |pixels| head.logits(&features(pixels)?))?;
    Ok(TrainedClassifier { predictions, curve, images: task.training_images() })
}
