//! What `bench` prints of layers and steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::Scratch;

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_step_prints_the_keys_of_the_reference_and_its_parts() {
    let small = ["--size", "16", "--batch", "3", "--width", "4", "--hidden", "8", "--steps", "2", "--threads", "1"];
    for arch in ["resnet18", "resnet50"] {
        let told = parsed(&Scratch::new().done(&[&["bench", "step", "--arch", arch, "--json"], &small[..]].concat()));
        assert_eq!((told["arch"].as_str(), told["threads"].as_u64()), (Some(arch), Some(1)));
        let number = |key: &str| told[key].as_f64().unwrap();
        assert!((number("images_per_s") * number("step_s") / 3.0 - 1.0).abs() < 1e-9);
        assert!(number("forward_s") > 0.0 && number("backward_s") > 0.0);
        let parts = told["parts_s"].as_object().unwrap();
        assert_eq!(parts.len(), 5);
        // Medians of parts do not add up to the median of the whole, but nearly.
        let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
        assert!(sum < 2.0 * number("step_s"), "{told}");
    }
    Scratch::new().refused(&["bench", "step", "--arch", "vgg"], 2, &["resnet18", "resnet152"]);
}

#[test]
fn every_convolution_of_a_resnet_is_measured_in_three_ways() {
    let told =
        parsed(&Scratch::new().done(&["bench", "conv", "--width", "2", "--batch", "1", "--steps", "1", "--json"]));
    let layers = told["gflops"].as_array().unwrap();
    assert_eq!(layers.len(), 11);
    for layer in layers {
        assert!(["forward", "backward_data", "backward_weight"].iter().all(|key| layer[key].as_f64().unwrap() > 0.0));
    }
}
