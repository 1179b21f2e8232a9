//! Output of `bench`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device};
use common::Scratch;
use equimod::core::collective::SingleProcess;
use equimod::core::{BackboneConfig, Execution, Method, MethodConfig, Parameters, Placement};

/// Numbers of a table's cell, e.g. `130` of `130 TFLOP/s` and `1190` of `1 190`.
fn number(cell: &str) -> f64 {
    let digits: String = cell.chars().filter(|letter| letter.is_ascii_digit() || *letter == '.').collect();
    digits.parse().unwrap()
}

/// The model of `docs/gpu.md` of a step of a ResNet-50, computed from shapes and the rates that the table assumes.
#[test]
fn the_documented_roofline_follows_from_shapes() {
    let execution = Execution::default();
    let shared = SingleProcess::shared();
    let config: MethodConfig = serde_json::from_str(
        r#"{"backbone": {"architecture": "resnet50", "stem": "imagenet", "width": 64},
            "objective": {"kind": "simclr"}, "equivariance": {"equimod": {}}}"#,
    )
    .unwrap();
    let (device, dtype) = (&Device::Cpu, DType::F32);
    let placement = Placement { seed: 0, dtype, device, image_size: 224, collective: shared, execution };
    let method = Method::new(&config, &Parameters::of_views(15), placement).unwrap();
    let flops = method.flops(64, 224).unwrap();
    let BackboneConfig::ResNet(resnet) = &config.backbone else { panic!("{config:?}") };
    let values = 3.0 * 64.0 * resnet.activations(224);
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gpu.md")).unwrap();
    let words = docs.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = format!("{:.2} TFLOP of convolutions and heads", flops / 1e12);
    assert!(words.contains(&said), "{said}");
    let said = format!("{:.1} G activation values of two bytes in 17 passes", values / 1e9);
    assert!(words.contains(&said), "{said}");
    let rows = docs.lines().filter(|line| line.contains("TFLOP/s | ")).collect::<Vec<_>>();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let cells: Vec<f64> = row.split('|').skip(2).take(6).map(number).collect();
        let [rate, bandwidth, convolutions, passes, step, images] = cells[..] else { panic!("{row}") };
        let found = [1e3 * flops / (rate * 1e12), 1e3 * 2.0 * 17.0 * values / (0.75 * bandwidth * 1e12)];
        // Each cell is rounded: times to milliseconds, images to tens.
        assert!((found[0] - convolutions).abs() <= 0.5 && (found[1] - passes).abs() <= 0.5, "{found:?} {row}");
        assert!((found[0] + found[1] - step).abs() <= 0.5, "{found:?} {row}");
        assert!((64e3 / (found[0] + found[1]) - images).abs() <= 5.0, "{found:?} {row}");
    }
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn bench_step_prints_times_and_their_breakdown() {
    let small = ["--size", "16", "--batch", "3", "--width", "4", "--hidden", "8", "--steps", "2", "--threads", "1"];
    for arch in ["resnet18", "resnet50"] {
        let result = parsed(&Scratch::new().done(&[&["bench", "step", "--arch", arch, "--json"], &small[..]].concat()));
        assert_eq!((result["arch"].as_str(), result["threads"].as_u64()), (Some(arch), Some(1)));
        assert_eq!((result["precision"].as_str(), result["autotune"].as_bool()), (Some("f32"), Some(false)));
        assert_eq!(result["fused"].as_bool(), Some(true));
        let number = |key: &str| result[key].as_f64().unwrap();
        assert!((number("images_per_s") * number("step_s") / 3.0 - 1.0).abs() < 1e-9);
        assert!(number("forward_s") > 0.0 && number("backward_s") > 0.0);
        let parts = result["parts_s"].as_object().unwrap();
        assert_eq!(parts.len(), 5);
        // Medians of the phases add up only approximately to the median of the whole.
        let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
        assert!(sum < 2.0 * number("step_s"), "{result}");
    }
    let others = ["bench", "step", "--json", "--precision", "bf16", "--autotune", "--no-fusion"];
    let result = parsed(&Scratch::new().done(&[&others, &small[..]].concat()));
    assert_eq!((result["precision"].as_str(), result["autotune"].as_bool()), (Some("bf16"), Some(true)));
    assert_eq!(result["fused"].as_bool(), Some(false));
    assert!(result["images_per_s"].as_f64().unwrap() > 0.0 && result["allocated_mib"].is_u64());
    Scratch::new().refused(&["bench", "step", "--arch", "vgg"], 2, &["resnet18", "resnet152"]);
    Scratch::new().refused(&["bench", "step", "--precision", "f16"], 2, &["f32", "tf32", "bf16"]);
}

#[test]
fn bench_conv_measures_forward_and_backward_of_every_convolution() {
    let result =
        parsed(&Scratch::new().done(&["bench", "conv", "--width", "2", "--batch", "1", "--steps", "1", "--json"]));
    let layers = result["gflops"].as_array().unwrap();
    assert_eq!(layers.len(), 11);
    for layer in layers {
        assert!(["forward", "backward_data", "backward_weight"].iter().all(|key| layer[key].as_f64().unwrap() > 0.0));
    }
}

#[test]
fn a_dry_run_forecasts_the_memory_of_a_step() {
    let scratch = Scratch::new();
    let recipe = "[backbone]\nwidth = 8\n[objective]\nprojection_head = \"64-64-128 bn-\"\n\
        [equivariance.equimod]\nprojection_head = \"64-64-128 bn-\"\n[data]\nbatch = 80\n";
    scratch.write("recipe.toml", recipe);
    let shape = ["--width", "8", "--hidden", "64", "--batch", "80", "--steps", "1"];
    let mut forecasts = Vec::new();
    for (recompute, flag) in [("false", &[][..]), ("true", &["--recompute"])] {
        let setting = format!("execution.recompute={recompute}");
        let output = scratch.run(&["pretrain", "--recipe", "recipe.toml", "--set", &setting, "--dry-run"]);
        let log = String::from_utf8(output.stderr).unwrap();
        let (_, log) = log.split_once("a step of 80 images has ").unwrap();
        let forecast: f64 = log.split(' ').next().unwrap().parse().unwrap();
        let measured = parsed(&scratch.done(&[&["bench", "step", "--json"], &shape[..], flag].concat()));
        let measured = measured["allocated_mib"].as_f64().unwrap();
        assert!((forecast / measured - 1.0).abs() < 0.05, "forecast {forecast} MiB, measured {measured} MiB");
        forecasts.push(forecast);
    }
    assert!(forecasts[1] < 0.55 * forecasts[0], "{forecasts:?}");
}

#[test]
fn bench_augment_measures_augmentations() {
    let scratch = Scratch::new();
    let options = ["--images", "20", "--json"];
    // The subcommand may be left out, and options may precede or follow it.
    for arguments in [&[][..], &["cifar"]] {
        for ordered in [[&options[..], arguments], [arguments, &options]] {
            let result = parsed(&scratch.done(&[&["bench", "augment"], &ordered.concat()[..]].concat()));
            assert_eq!((result["pipeline"].as_str(), result["images"].as_u64()), (Some("cifar"), Some(20)));
            assert!(result["images_per_s"].as_f64().unwrap() > 0.0);
        }
    }
    scratch.refused(&["bench", "augment", "--images", "19"], 2, &["19", "20"]);
    scratch.refused(&["bench", "augment", "folder", "nowhere"], 3, &["nowhere"]);
}

#[test]
fn bench_loader_and_bench_eval_measure_loading_and_evaluation() {
    let scratch = Scratch::new();
    let result = parsed(&scratch.done(&["bench", "loader", "--set", "data.batch=8", "--batches", "2", "--json"]));
    assert_eq!((result["batch"].as_u64(), result["data"].as_str()), (Some(8), Some("emoji")));
    let number = |result: &serde_json::Value, key: &str| result[key].as_f64().unwrap();
    assert!((number(&result, "images_per_s") * number(&result, "seconds_per_batch") / 8.0 - 1.0).abs() < 1e-9);
    let shape = ["--images", "24", "--width", "4", "--size", "16"];
    let result = parsed(&scratch.done(&[&["bench", "eval", "--json"], &shape[..]].concat()));
    assert_eq!((result["images"].as_u64(), result["features"].as_u64()), (Some(24), Some(32)));
    assert!(["features_s", "knn_s", "logistic_s"].iter().all(|key| number(&result, key) > 0.0));
    scratch.refused(&["bench", "loader", "--data", "nowhere"], 3, &["nowhere"]);
}
