//! Output of `doctor`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::Scratch;
use serde_json::Value;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether every value is null or passes.
fn all_or_null(values: &Value, keys: &[&str], passes: fn(&Value) -> bool) {
    for key in keys {
        let value = values.get(key).unwrap_or_else(|| panic!("{key} is missing in {values}"));
        assert!(value.is_null() || passes(value), "{key}: {value}");
    }
}

#[test]
fn the_report_names_build_machine_and_gpus() {
    let text = Scratch::new().done(&["doctor"]);
    for part in ["build\n", env!("CARGO_PKG_VERSION"), "features", "machine\n", "cores", "locked memory", "CUDA\n"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(text.contains("cargo build --release --features cudnn"), !cfg!(feature = "cudnn"), "{text}");
    let threads = Scratch::new().done(&["doctor", "--threads", "3"]);
    assert!(threads.contains("3 compute threads"), "{threads}");
}

#[test]
fn the_json_has_the_documented_keys() {
    let report = parsed(&Scratch::new().done(&["doctor", "--json"]));
    assert_eq!(keys(&report), ["schema_version", "build", "machine", "cuda", "examination"]);
    assert_eq!((report["schema_version"].as_u64(), report["examination"].is_null()), (Some(1), true));
    let build = &report["build"];
    assert_eq!(keys(build), ["version", "target", "features", "instruction_set"]);
    assert_eq!(keys(&build["features"]), ["hub", "mnist", "cuda", "cudnn", "nccl", "metal", "accelerate", "mpi"]);
    assert_eq!(build["features"]["hub"].as_bool(), Some(cfg!(feature = "hub")));
    let machine = &report["machine"];
    let bytes = ["memory_bytes", "memory_available_bytes", "memory_limit_bytes", "locked_memory_bytes"];
    assert_eq!(keys(machine)[..4], ["system", "cpu", "cores", "threads"]);
    assert_eq!(keys(machine)[4..], [&bytes[..], &["locked_memory_unlimited"]].concat());
    all_or_null(machine, &["system", "cpu"], Value::is_string);
    all_or_null(machine, &bytes, Value::is_u64);
    all_or_null(machine, &["locked_memory_unlimited"], Value::is_boolean);
    let cuda = &report["cuda"];
    let versions = ["driver_version", "driver_cuda_version", "cublas_version", "cudnn_version", "nccl_version"];
    assert_eq!(keys(cuda), [&["in_build", "card_visible"], &versions[..], &["cards", "remarks"]].concat());
    assert_eq!(cuda["in_build"].as_bool(), Some(cfg!(feature = "cuda")));
    all_or_null(cuda, &versions, Value::is_string);
    assert!(cuda["cards"].is_array() && cuda["remarks"].as_array().unwrap().iter().all(Value::is_string));
}

/// Linux tells everything except, in a container, some names.
#[cfg(target_os = "linux")]
#[test]
fn linux_tells_memory_and_cores() {
    let machine = parsed(&Scratch::new().done(&["doctor", "--json"]))["machine"].clone();
    let number = |key: &str| machine[key].as_u64().unwrap();
    assert!(number("cores") > 0 && number("threads") > 0);
    assert!(number("memory_available_bytes") > 0 && number("memory_available_bytes") <= number("memory_bytes"));
    let locked = machine["locked_memory_bytes"].is_u64();
    assert_eq!(machine["locked_memory_unlimited"].as_bool(), Some(!locked));
}

#[test]
fn the_cpu_agrees_with_itself_in_f64() {
    let examination = parsed(&Scratch::new().done(&["doctor", "--device", "cpu", "--json"]))["examination"].clone();
    assert_eq!(keys(&examination), ["device", "agrees", "tf32", "checks", "steps", "remarks"]);
    assert_eq!((examination["agrees"].as_bool(), examination["tf32"].as_bool()), (Some(true), Some(false)));
    let checks = examination["checks"].as_array().unwrap();
    for check in checks {
        assert_eq!(keys(check), ["check", "precision", "tolerance", "error", "agrees", "failure"]);
        assert_eq!((check["agrees"].as_bool(), check["failure"].is_null()), (Some(true), true), "{check}");
        assert!(check["error"].as_f64().unwrap() <= check["tolerance"].as_f64().unwrap(), "{check}");
    }
    let has = |name: &str, precision: &str| {
        checks.iter().any(|check| check["precision"] == precision && check["check"].as_str().unwrap().starts_with(name))
    };
    let everywhere = [
        "convolution",
        "fused convolution",
        "batch norm",
        "max-pool",
        "average pool",
        "product",
        "cross-entropy",
        "pixels",
    ];
    for name in everywhere.into_iter().chain(["step of SimCLR + EquiMod", "step of BYOL + EquiMod"]) {
        assert!(has(name, "f32") && has(name, "bf16"), "{name}");
    }
    for name in ["LARS", "SGD", "AdamW", "average of the target network"] {
        assert!(has(name, "f32") && !has(name, "bf16"), "{name}");
    }
    // Something is rounded: the checks do not compare f64 with itself.
    assert!(checks.iter().filter(|check| check["error"].as_f64().unwrap() > 0.0).count() > 80);
    let steps = examination["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step["precision"].as_str().unwrap()).collect::<Vec<_>>(), ["f32", "bf16"]);
    for step in steps {
        assert_eq!(keys(step), ["precision", "images_per_second", "steps", "memory_bytes", "failure"]);
        assert!(step["images_per_second"].as_f64().unwrap() > 0.0 && step["steps"].as_u64().unwrap() > 0, "{step}");
        // Parameters, gradients, momentum and their head alone take more than 100 MB.
        assert!(step["memory_bytes"].as_u64().unwrap() > 100_000_000, "{step}");
    }
}

#[test]
fn a_device_that_does_not_exist_is_refused_in_a_sentence() {
    let scratch = Scratch::new();
    scratch.refused(&["doctor", "--device", "tpu"], 2, &["tpu", "cuda:N"]);
    if !cfg!(feature = "cuda") {
        scratch.refused(&["doctor", "--device", "cuda"], 2, &["lacks cuda", "cargo build --release --features cudnn"]);
    }
    if !cfg!(feature = "metal") {
        scratch.refused(&["doctor", "--device", "metal:0"], 2, &["lacks metal", "--features metal"]);
    }
}
