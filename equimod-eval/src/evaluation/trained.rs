//! Classifiers that are trained on images.

use std::sync::Arc;

use equimod_core::OptimizerConfig;
use equimod_data::Dataset;

use super::{Classification, Classify, Evaluation, LabeledTask};
use crate::finetune::{FinetuneConfig, finetune};
use crate::linear::{LinearConfig, linear};
use crate::report::{Plot, Series};
use crate::results::{FEW_STEPS, OTHER_EPOCHS};
use crate::supervised::{
    EpochRecord, LabeledImages, SupervisedTask, TrainedClassifier, TrainingCurve, TrainingProgress,
};
use crate::{Labeled, Result};

/// Steps below which a linear layer is reported as not converged. The published 90 epochs have so many from about 2800
/// images.
const LEAST_STEPS: usize = 1000;

/// Remark on epochs that are not those of the protocol.
fn other_epochs(epochs: usize, usual: usize) -> String {
    if epochs == usual { String::new() } else { format!(" ({OTHER_EPOCHS})") }
}

impl Classify for LinearConfig {
    fn protocol(&self) -> &'static str {
        "linear"
    }

    fn classify(&self, evaluation: &Evaluation) -> Result<Vec<Classification>> {
        let classification = |task: LabeledTask| {
            let images = evaluation.supervised(&task)?;
            let progress = |now: TrainingProgress| evaluation.observer.progress("linear", now.step, now.steps);
            let trained = linear(evaluation.model, &images, self, &mut { progress })?;
            let remark = other_epochs(self.epochs, Self::default().epochs);
            let steps = self.epochs * trained.images.div_ceil(self.batch);
            let few = if steps < LEAST_STEPS { format!(" ({steps} {FEW_STEPS})") } else { String::new() };
            let detail = format!(
                "SGD with Nesterov momentum {}, {} epochs{remark} of batches of {}{few}, learning rate {} to {}, crops \
                 and flips, last epoch",
                self.momentum, self.epochs, self.batch, self.learning_rate, self.final_learning_rate
            );
            Ok(classification(task, "linear", String::new(), trained, detail))
        };
        evaluation.labeled_tasks()?.into_iter().map(classification).collect()
    }
}

/// Fine-tuning of the whole network on shares of the labels, with batches and rates that suit the number of labeled
/// images.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneProtocol {
    /// Shares of the labels of each class, above 0 and at most 1. Default: 0.01, 0.1 and 1.
    pub label_fractions: Vec<f64>,
    /// Images a batch. By default 256, or as many as make 40 steps an epoch, at least 16.
    pub batch: Option<usize>,
    /// Highest learning rate. By default 0.05 · batch / 256 for SGD and LARS, 0.001 for AdamW.
    pub learning_rate: Option<f64>,
    /// All other settings; its batch, learning rate and label fraction are replaced.
    pub settings: FinetuneConfig,
}

impl Default for FinetuneProtocol {
    fn default() -> Self {
        Self {
            label_fractions: vec![0.01, 0.1, 1.0],
            batch: None,
            learning_rate: None,
            settings: FinetuneConfig::default(),
        }
    }
}

/// Steps an epoch that the default batch leaves room for, and the smallest and largest default batch.
const STEPS: usize = 40;
const BATCHES: (usize, usize) = (16, 256);

impl FinetuneProtocol {
    /// The settings for a share of `images` labeled images.
    fn config(&self, label_fraction: f64, images: usize) -> FinetuneConfig {
        let labeled = (images as f64 * label_fraction).round() as usize;
        let batch = self.batch.unwrap_or((labeled / STEPS).clamp(BATCHES.0, BATCHES.1));
        let rate = match &self.settings.optimizer {
            OptimizerConfig::AdamW(_) => 1e-3,
            _ => 0.05 * batch as f64 / 256.0,
        };
        let learning_rate = self.learning_rate.unwrap_or(rate);
        FinetuneConfig { batch, learning_rate, label_fraction, ..self.settings.clone() }
    }
}

impl Classify for FinetuneProtocol {
    fn protocol(&self) -> &'static str {
        "finetune"
    }

    fn classify(&self, evaluation: &Evaluation) -> Result<Vec<Classification>> {
        let mut classifications = Vec::new();
        for &fraction in &self.label_fractions {
            for task in evaluation.labeled_tasks()? {
                let images = evaluation.supervised(&task)?;
                let config = self.config(fraction, images.training_images());
                let progress = |now: TrainingProgress| evaluation.observer.progress("finetune", now.step, now.steps);
                let trained = finetune(evaluation.model, &images, &config, &mut { progress })?;
                let variant = format!("{} % of the labels", percent(fraction));
                let epochs = if config.epochs == 1 { "epoch" } else { "epochs" };
                let remark = other_epochs(config.epochs, FinetuneConfig::default().epochs);
                let detail = format!(
                    "{} labeled images, {} {epochs}{remark} of batches of {}, learning rate {:.1e} falling to 0, last epoch",
                    trained.images, config.epochs, config.batch, config.learning_rate
                );
                classifications.push(classification(task, "finetune", variant, trained, detail));
            }
        }
        Ok(classifications)
    }
}

impl Evaluation<'_> {
    /// The images of a task, to train and to test on.
    fn supervised(&self, task: &LabeledTask) -> Result<SupervisedTask> {
        let images = |dataset: &Arc<dyn Dataset>, labeled: &Labeled| {
            LabeledImages::new(dataset, labeled.indices.clone(), labeled.labels.clone())
        };
        let train = images(&self.splits.train, &task.train)?;
        let test = images(task.test_dataset(self.splits), &task.test)?;
        SupervisedTask::new(train, test, task.classes.len(), self.training_input())
    }
}

/// A share in per cent, without trailing zeros.
fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 1e2
}

fn classification(
    task: LabeledTask,
    protocol: &str,
    variant: String,
    trained: TrainedClassifier,
    detail: String,
) -> Classification {
    let TrainedClassifier { predictions, curve, .. } = trained;
    let protocol = protocol.to_owned();
    let one = Classification { predictions, protocol, variant, chosen: None, detail, curves: Vec::new(), task };
    Classification { curves: curves(&one.title(), &curve), ..one }
}

/// Loss and accuracy on training images over epochs.
fn curves(title: &str, curve: &TrainingCurve) -> Vec<Plot> {
    let plot = |name: &str, of: fn(&EpochRecord) -> f64| Plot {
        title: format!("{title}: {name} in training"),
        x_label: "epoch".into(),
        series: vec![Series {
            name: name.into(),
            points: curve.epochs.iter().enumerate().map(|(epoch, record)| (epoch as f64 + 1.0, of(record))).collect(),
        }],
        ..Plot::default()
    };
    vec![plot("cross-entropy", |record| record.loss), plot("accuracy", |record| record.accuracy)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_and_rate_follow_from_the_number_of_labeled_images() {
        let protocol = FinetuneProtocol::default();
        let settings = |fraction, images| {
            let config = protocol.config(fraction, images);
            (config.batch, config.learning_rate, config.label_fraction)
        };
        assert_eq!(settings(1.0, 50_000), (256, 0.05, 1.0));
        assert_eq!(settings(0.1, 40_000), (100, 0.05 * 100.0 / 256.0, 0.1));
        assert_eq!(settings(0.01, 1000), (16, 0.05 * 16.0 / 256.0, 0.01));
        let fixed = FinetuneProtocol { batch: Some(32), learning_rate: Some(0.3), ..protocol };
        assert_eq!((fixed.config(1.0, 9).batch, fixed.config(1.0, 9).learning_rate), (32, 0.3));
    }
}
