//! Training of the linear evaluation against the reference's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod golden;

use candle_core::{DType, Tensor};
use equimod_eval::Labeled;
use equimod_eval::linear::{LinearConfig, LinearHead, train_on_features};
use golden::Golden;

/// The rows `X` with their labels `y`, in the tensors whose names end in `suffix`.
fn labeled(golden: &Golden, suffix: &str, classes: usize) -> Labeled {
    Labeled::new(golden.features(&format!("X{suffix}")), golden.labels(&format!("y{suffix}")), classes).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The tolerances of this file are five times the measured rounding noise, at least 4e-6 relative to the norm.
fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let square: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
    let relative = (square / want.iter().map(|b| b * b).sum::<f64>()).sqrt();
    assert!(relative <= 4e-6, "{what}: {relative:e}");
}

#[test]
fn golden_linear_evaluation_on_fixed_features() {
    let Some(golden) = Golden::open("linear_eval_sgd.safetensors") else { return };
    let classes = golden.tensor("W0").dim(0).unwrap();
    let (train, test) = (labeled(&golden, "", classes), labeled(&golden, "_test", classes));
    let orders: Vec<Vec<usize>> = (golden.tensor("epoch_permutations").to_vec2::<i64>().unwrap().into_iter())
        .map(|order| order.into_iter().map(|place| place as usize).collect())
        .collect();
    let head = LinearHead::with_weights(golden.tensor("W0"), golden.tensor("b0")).unwrap();
    let config = LinearConfig { epochs: orders.len(), batch: 32, ..LinearConfig::default() };
    let mut steps = 0;
    let order = |epoch: u64| orders[epoch as usize].clone();
    let curve = train_on_features(&head, &train, &config, &order, &mut |progress| steps = progress.step).unwrap();
    assert_eq!(steps as usize, golden.values("losses").len());
    close(&curve.rates, &golden.values("lrs"), "lrs");
    close(&curve.losses, &golden.values("losses"), "losses");
    close(&flat(&head.weight().unwrap()), &golden.values("W_final"), "W_final");
    close(&flat(&head.bias().unwrap()), &golden.values("b_final"), "b_final");
    let accuracies: Vec<f64> = curve.epochs.iter().map(|epoch| epoch.accuracy).collect();
    close(&accuracies, &golden.values("train_acc_per_epoch"), "train_acc_per_epoch");
    let predictions = head.predict(&test).unwrap();
    let share = |right: Vec<f64>| right.iter().sum::<f64>() / right.len() as f64;
    let top = [share(predictions.hits(1)), share(predictions.hits(5))];
    close(&top, &golden.values("test_top1_top5"), "test_top1_top5");
    let loss = |row: usize| -predictions.row(row)[predictions.labels()[row] as usize].ln();
    let loss = (0..predictions.len()).map(loss).sum::<f64>() / predictions.len() as f64;
    close(&[loss], &golden.values("test_loss"), "test_loss");
}
