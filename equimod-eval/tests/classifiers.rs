//! Classifiers that are trained on images: they detect planted classes and nothing else, and are deterministic.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;

use common::{SIDE, colors, model};
use equimod_core::optim::AdamWConfig;
use equimod_core::{Model, OptimizerConfig};
use equimod_data::{Dataset, Policy};
use equimod_eval::finetune::{BatchNormStatistics, FinetuneConfig, finetune};
use equimod_eval::linear::{LinearConfig, linear};
use equimod_eval::supervised::{LabeledImages, SupervisedTask, TrainedClassifier};
use equimod_eval::{Crop, InputTransform};

const INPUT: InputTransform = InputTransform { size: SIDE, crop: Crop::Inset };

fn plain() -> Model {
    model(Policy::built_in("simclr-cifar10", SIDE).unwrap(), "{}")
}

/// All images with the labels of their only task.
fn labeled(dataset: &Arc<dyn Dataset>) -> LabeledImages {
    let labels = (0..dataset.len()).map(|place| dataset.label(0, place).unwrap()).collect();
    LabeledImages::new(dataset, (0..dataset.len()).collect(), labels).unwrap()
}

fn task(shuffled: bool) -> SupervisedTask {
    let (train, test) = (colors(72, 0, shuffled), colors(60, 1000, shuffled));
    SupervisedTask::new(labeled(&train), labeled(&test), 3, INPUT).unwrap()
}

fn accuracy(outcome: &TrainedClassifier) -> f64 {
    outcome.predictions.hits(1).iter().sum::<f64>() / outcome.predictions.len() as f64
}

fn quick() -> FinetuneConfig {
    FinetuneConfig { epochs: 6, batch: 16, ..FinetuneConfig::default() }
}

/// Chance is a third; over 60 test images the standard deviation is 0.061.
const NEAR_CHANCE: f64 = 1.0 / 3.0 + 4.0 * 0.061;

#[test]
fn fine_tuning_finds_planted_labels_and_no_shuffled_ones() {
    let model = plain();
    let before = model.params().deep_copy().unwrap();
    let found = finetune(&model, &task(false), &quick(), &mut |_| {}).unwrap();
    assert!(accuracy(&found) > 0.95, "{}", accuracy(&found));
    assert_eq!((found.images, found.curve.epochs.len()), (72, 6));
    assert!(found.curve.epochs[5].loss < found.curve.epochs[0].loss);
    let shuffled = finetune(&model, &task(true), &quick(), &mut |_| {}).unwrap();
    assert!(accuracy(&shuffled) < NEAR_CHANCE, "{}", accuracy(&shuffled));
    for (name, slot) in model.params().iter() {
        let change = (slot.var.as_tensor() - &before[name]).unwrap().abs().unwrap().flatten_all().unwrap();
        let change = change.to_dtype(candle_core::DType::F32).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(change, 0.0, "{name} of the caller's model was changed");
    }
}

#[test]
fn fine_tuning_repeats_itself_on_any_number_of_threads() {
    let model = plain();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = FinetuneConfig { epochs: 2, threads, ..quick() };
        pool.install(|| finetune(&model, &task(false), &config, &mut |_| {}).unwrap())
    };
    let (one, two) = (on(1), on(2));
    assert_eq!(one.curve, two.curve);
    assert_eq!(one.predictions, two.predictions);
}

#[test]
fn options_of_fine_tuning_learn_too() {
    let model = plain();
    let adamw = OptimizerConfig::AdamW(AdamWConfig::default());
    for config in [
        FinetuneConfig { optimizer: adamw, learning_rate: 3e-3, layer_decay: 0.7, epochs: 15, ..quick() },
        FinetuneConfig { batch_norm: BatchNormStatistics::Frozen, warmup_epochs: 1, ..quick() },
    ] {
        let outcome = finetune(&model, &task(false), &config, &mut |_| {}).unwrap();
        assert!(accuracy(&outcome) > 0.9, "{} with {config:?}", accuracy(&outcome));
    }
}

#[test]
fn a_share_of_labels_is_stratified_and_keeps_every_class() {
    // 24 images per class.
    let share = |fraction: f64| task(false).with_fraction(fraction, 1).unwrap().training_images();
    assert_eq!([1.0, 0.5, 0.1, 0.001].map(share), [72, 36, 6, 3]);
    assert!(task(false).with_fraction(0.0, 1).is_err());
    let config = FinetuneConfig { label_fraction: 0.1, epochs: 1, ..quick() };
    let mut steps = Vec::new();
    let outcome = finetune(&plain(), &task(false), &config, &mut |progress| steps.push(progress.step)).unwrap();
    assert_eq!((outcome.images, steps), (6, vec![1]));
}

#[test]
fn the_linear_evaluation_finds_planted_labels_and_no_shuffled_ones() {
    let model = plain();
    let config = LinearConfig { epochs: 30, batch: 16, learning_rate: 2.0, ..LinearConfig::default() };
    let found = linear(&model, &task(false), &config, &mut |_| {}).unwrap();
    assert!(accuracy(&found) > 0.9, "{}", accuracy(&found));
    // 72 images in batches of 16 are five steps per epoch.
    assert_eq!((found.curve.losses.len(), found.curve.epochs.len()), (150, 30));
    let shuffled = linear(&model, &task(true), &config, &mut |_| {}).unwrap();
    assert!(accuracy(&shuffled) < NEAR_CHANCE, "{}", accuracy(&shuffled));
    let again = linear(&model, &task(false), &LinearConfig { threads: 1, ..config }, &mut |_| {}).unwrap();
    assert_eq!(found, again);
}

#[test]
fn predictions_hold_indices_into_the_data_set_that_was_given() {
    let all = colors(12, 0, false);
    let part = |places: Vec<usize>| {
        let labels = places.iter().map(|&place| all.label(0, place).unwrap()).collect();
        LabeledImages::new(&all, places, labels).unwrap()
    };
    let task = SupervisedTask::new(part((0..9).collect()), part(vec![11, 9, 10]), 3, INPUT).unwrap();
    let config = LinearConfig { epochs: 1, batch: 4, ..LinearConfig::default() };
    let outcome = linear(&plain(), &task, &config, &mut |_| {}).unwrap();
    assert_eq!(outcome.predictions.labels(), [2, 0, 1]);
    assert_eq!(outcome.predictions.indices(), [11, 9, 10]);
}
