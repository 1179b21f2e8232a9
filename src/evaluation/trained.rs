//! Classifiers that are trained on pictures.

use std::sync::Arc;

use equimod_core::Model;
use equimod_data::Dataset;
use equimod_eval::finetune::{FinetuneConfig, finetune};
use equimod_eval::linear::{LinearConfig, linear};
use equimod_eval::report::{Plot, Series};
use equimod_eval::supervised::{LabelledPictures, Progress, SupervisedOutcome, SupervisedTask, TrainingCurve};
use equimod_eval::{Crop, Input, Labelled};

use super::{Evaluation, Outcome, Task};
use crate::output::Count;

impl Evaluation<'_> {
    /// The published linear evaluation.
    pub fn linear(&self, model: &Model, config: &LinearConfig) -> anyhow::Result<Vec<Outcome>> {
        let outcome = |task: Task| {
            let pictures = self.pictures(model, &task)?;
            let done = watched("linear", |progress| linear(model, &pictures, config, progress))?;
            let detail = format!(
                "SGD with Nesterov's momentum {}, {} epochs of batches of {}, rate {} to {}, crops and flips, last epoch",
                config.momentum, config.epochs, config.batch, config.learning_rate, config.final_learning_rate
            );
            Ok(trained(task, "linear", String::new(), done, detail))
        };
        self.tasks()?.into_iter().map(outcome).collect()
    }

    /// Fine-tuning of the whole network on each share of the labels; `config` gives the settings for a number of labelled
    /// pictures.
    pub fn finetune(
        &self,
        model: &Model,
        config: &dyn Fn(usize) -> FinetuneConfig,
        shares: &[f64],
    ) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for &label_fraction in shares {
            for task in self.tasks()? {
                let pictures = self.pictures(model, &task)?;
                let labelled = (pictures.training_pictures() as f64 * label_fraction).round() as usize;
                let config = FinetuneConfig { label_fraction, ..config(labelled) };
                let done = watched("finetune", |progress| finetune(model, &pictures, &config, progress))?;
                let share = format!("{} % of the labels", percent(label_fraction));
                let detail = format!(
                    "{} labelled pictures, {} epochs of batches of {}, rate {:.1e} falling to 0, last epoch",
                    done.pictures, config.epochs, config.batch, config.learning_rate
                );
                outcomes.push(trained(task, "finetune", share, done, detail));
            }
        }
        Ok(outcomes)
    }

    /// The pictures of a task, as they are trained and tested on.
    fn pictures(&self, model: &Model, task: &Task) -> anyhow::Result<SupervisedTask> {
        let part = |dataset: &Arc<dyn Dataset>, part: &Labelled| {
            LabelledPictures::new(dataset, part.pictures.clone(), part.labels.clone())
        };
        let (train, test) =
            (part(&self.splits.train, &task.train)?, part(task.test_pictures(self.splits), &task.test)?);
        let input = self.settings.input.unwrap_or(Input { size: model.preprocessing.size, crop: Crop::Inset });
        Ok(SupervisedTask::new(train, test, task.classes.len(), input)?)
    }
}

/// A share in per cent, without zeros at its end.
fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 1e2
}

/// Trains with a bar on a terminal.
fn watched(
    what: &'static str,
    train: impl FnOnce(&mut dyn FnMut(Progress)) -> equimod_eval::Result<SupervisedOutcome>,
) -> anyhow::Result<SupervisedOutcome> {
    let mut bar: Option<Count> = None;
    let done = train(&mut |progress| {
        bar.get_or_insert_with(|| Count::new(what, progress.steps as usize)).set(progress.step);
    });
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(done?)
}

fn trained(task: Task, protocol: &str, variant: String, done: SupervisedOutcome, detail: String) -> Outcome {
    let protocol = protocol.to_owned();
    let outcome =
        Outcome { predictions: done.predictions, protocol, variant, chosen: None, detail, curves: Vec::new(), task };
    Outcome { curves: curves(&outcome.title(), &done.curve), ..outcome }
}

/// Loss and accuracy on training pictures over epochs.
fn curves(title: &str, curve: &TrainingCurve) -> Vec<Plot> {
    let plot = |name: &str, of: fn(&equimod_eval::supervised::EpochRecord) -> f64| Plot {
        title: format!("{title}: {name} in training"),
        x_label: "epoch".into(),
        series: vec![Series {
            name: name.into(),
            points: curve.epochs.iter().enumerate().map(|(epoch, record)| (epoch as f64 + 1.0, of(record))).collect(),
        }],
    };
    vec![plot("cross-entropy", |record| record.loss), plot("accuracy", |record| record.accuracy)]
}
