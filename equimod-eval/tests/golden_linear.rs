//! The linear evaluation's training against the reference's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use equimod_eval::linear::{LinearConfig, LinearHead, train_on_features};
use equimod_eval::metrics::hits;
use equimod_eval::{Features, Labelled};
use safetensors::SafeTensors;

const FILE: &str = "linear_eval_sgd.safetensors";

struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    fn open() -> Option<Self> {
        let (folder, other) = match std::env::var_os("EQUIMOD_GOLDEN_DIR") {
            Some(folder) => (PathBuf::from(folder), true),
            None => (PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden"), false),
        };
        let path = folder.join(FILE);
        if !path.is_file() {
            assert!(other, "{} is missing from the project", path.display());
            eprintln!("skipped: {} is not in this set", path.display());
            return None;
        }
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        Some(Self(file.tensors().into_iter().map(|(n, v)| (n, v.load(&Device::Cpu).unwrap())).collect()))
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn values(&self, name: &str) -> Vec<f64> {
        flat(self.tensor(name))
    }

    fn labelled(&self, suffix: &str, classes: usize) -> Labelled {
        let tensor = self.tensor(&format!("X{suffix}"));
        let (rows, columns) = tensor.dims2().unwrap();
        let values = flat(tensor).into_iter().map(|v| v as f32).collect();
        let labels = self.values(&format!("y{suffix}")).into_iter().map(|v| v as u32).collect();
        Labelled::new(Features::new(rows, columns, values).unwrap(), labels, classes).unwrap()
    }
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The tolerances measured for this file are five times the rounding noise, at least 4e-6 relative (of the norm).
fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let square: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
    let relative = (square / want.iter().map(|b| b * b).sum::<f64>()).sqrt();
    assert!(relative <= 4e-6, "{what}: {relative:e}");
}

#[test]
fn golden_linear_evaluation_on_fixed_features() {
    let Some(golden) = Golden::open() else { return };
    let classes = golden.tensor("W0").dim(0).unwrap();
    let (train, test) = (golden.labelled("", classes), golden.labelled("_test", classes));
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
    let ranked = predictions.ranked();
    let top = [share(predictions.hits(1)), share(hits(&ranked, predictions.labels(), 5))];
    close(&top, &golden.values("test_top1_top5"), "test_top1_top5");
    let loss = |row: usize| -predictions.row(row)[predictions.labels()[row] as usize].ln();
    let loss = (0..predictions.len()).map(loss).sum::<f64>() / predictions.len() as f64;
    close(&[loss], &golden.values("test_loss"), "test_loss");
}
