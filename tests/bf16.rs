//! The bundled recipe in bf16 against f32: the same accuracy but for the noise of seeds. Smaller images and a narrower
//! network than the recipe's keep the test short.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use common::Scratch;
use serde_json::Value;

/// Labels of which training raises the accuracy far more than seeds differ.
const TASKS: [&str; 2] = ["category", "subgroup"];

/// Least standard deviation of seeds that is assumed, in points; three seeds may agree by chance.
const LEAST: f64 = 1.0;

/// Top-1 accuracies in per cent by k-NN of a run with the recipe, and of its network before training.
fn accuracies(scratch: &Scratch, seed: usize, precision: &str) -> [(f64, f64); 2] {
    let (out, seed) = (format!("{precision}-{seed}"), format!("seed={seed}"));
    let precision = format!("execution.precision={precision}");
    let small = ["--width", "8", "--size", "16", "--epochs", "1", "--no-eval", "--out", &out];
    let settings = ["--set", &seed, "--set", &precision];
    scratch.done(&[&["pretrain", "--recipe", "quick"][..], &small, &settings].concat());
    let results = scratch.done(&["eval", "knn", &out, "--untrained", "--json"]);
    let results: Value = serde_json::from_str(&results).unwrap();
    TASKS.map(|task| {
        let rows = results["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["task"] == task && row["metric"] == "top-1 accuracy").unwrap();
        (100.0 * row["value"].as_f64().unwrap(), 100.0 * row["untrained"].as_f64().unwrap())
    })
}

#[test]
fn the_bundled_recipe_is_as_accurate_in_bf16() {
    let scratch = Scratch::new();
    let in_f32 = [0, 1, 2].map(|seed| accuracies(&scratch, seed, "f32"));
    let in_bf16 = accuracies(&scratch, 0, "bf16");
    for (task, name) in TASKS.iter().enumerate() {
        let seeds = in_f32.map(|accuracies| accuracies[task].0);
        let mean = seeds.iter().sum::<f64>() / 3.0;
        let deviation = (seeds.iter().map(|accuracy| (accuracy - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        let (found, untrained) = in_bf16[task];
        let said = format!("{name}: {found:.1} % in bf16 ({untrained:.1} % untrained), {seeds:.1?} % in f32");
        eprintln!("{said}");
        // A run differs from the mean of three by its own noise and theirs.
        assert!((found - mean).abs() <= 3.0 * deviation.max(LEAST) * (4f64 / 3.0).sqrt(), "{said}");
        assert!(found - untrained >= 0.5 * (mean - untrained) && mean - untrained >= 4.0, "{said}");
    }
}
