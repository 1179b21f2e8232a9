//! LARS, SGD and learning rate schedules against the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use common::{Golden, json, values};
use equimod_core::optim::{Lars, LarsConfig, Optimizer, Schedule, Sgd, SgdConfig, TargetMomentum, WarmupCosine};
use equimod_core::params::Gradients;
use equimod_core::params::{Init, Role};
use equimod_core::{ParamStore, Progress};

/// A store with the initial values of the file.
fn store(golden: &Golden, weights: &[String], others: &[String]) -> ParamStore {
    let mut store = ParamStore::new(0, DType::F32, &Device::Cpu);
    for (names, role) in [(weights, Role::Weight), (others, Role::Other)] {
        for name in names {
            let values = golden.get(&format!("init/{name}"));
            let var = store.root().parameter(name, values.shape(), Init::Constant(0.0), role).unwrap();
            var.set(values).unwrap();
        }
    }
    store
}

/// Compares each of five steps.
fn run(golden: &Golden, config: &str, store: &ParamStore, optimizer: &mut dyn Optimizer) {
    for (step, rate) in golden.values("f64/lr").into_iter().enumerate() {
        let mut gradients = Gradients::default();
        for (name, _) in store.trainable() {
            gradients.insert(name, golden.get(&format!("grad{step}/{name}")).copy().unwrap()).unwrap();
        }
        optimizer.step(store, &mut gradients, rate).unwrap();
        for (name, slot) in store.trainable() {
            golden.check_f32(&format!("{config}/step{}/{name}", step + 1), slot.var.as_tensor());
        }
        if step == 1 {
            // Saving and loading the state changes nothing.
            let saved: BTreeMap<_, _> =
                optimizer.state().into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect();
            optimizer.load_state(saved).unwrap();
        }
    }
}

#[test]
fn golden_lars() {
    let Some(golden) = Golden::open("lars.safetensors") else { return };
    let (weights, others) = (golden.meta_list("lars_group"), golden.meta_list("plain_group"));
    let published = LarsConfig { trust_coefficient: golden.meta("eta").parse().unwrap(), ..Default::default() };
    for (name, settings) in golden.meta_json("confs").as_object().unwrap() {
        let number = |key: &str, default| settings[key].as_f64().unwrap_or(default);
        let config = LarsConfig {
            weight_decay: number("weight_decay", 0.0),
            momentum: number("momentum", 0.9),
            adaptation: number("lars_weight", 1.0),
            nesterov: settings["nesterov"].as_bool().unwrap_or(false),
            ..published.clone()
        };
        let store = store(&golden, &weights, &others);
        let mut optimizer = Lars::new(config);
        run(&golden, name, &store, &mut optimizer);
        for (parameter, buffer) in optimizer.state() {
            let parameter = parameter.strip_prefix("momentum.").unwrap();
            let name = format!("{name}/momentum_after5/{parameter}");
            if golden.has(&name) {
                golden.check_f32(&name, &buffer);
            }
        }
    }
}

#[test]
fn golden_sgd() {
    let Some(golden) = Golden::open("sgd.safetensors") else { return };
    let names: Vec<String> = golden.tensors.keys().filter_map(|k| k.strip_prefix("init/").map(str::to_owned)).collect();
    let mut configs: Vec<&str> =
        golden.tensors.keys().filter(|k| k.contains("/step1/")).map(|k| k.split('/').next().unwrap()).collect();
    configs.dedup();
    assert!(!configs.is_empty());
    for name in configs {
        let part = |prefix: &str| name.split('_').find_map(|p| p.strip_prefix(prefix)).unwrap().parse().unwrap();
        let nesterov = name.starts_with("nesterov");
        let config = SgdConfig { momentum: part("m"), weight_decay: part("wd"), nesterov, decay_all: true };
        let store = store(&golden, &names, &[]);
        run(&golden, name, &store, &mut Sgd::new(config));
    }
}

#[test]
fn golden_learning_rates() {
    let Some(schedules) = json("schedules.json") else { return };
    for (name, case) in schedules.as_object().unwrap() {
        let number = |key: &str| case[key].as_u64();
        let schedule = if let (Some(steps), Some(epochs), Some(warmup)) =
            (number("steps_per_epoch"), number("nb_epochs"), number("warmup_epochs"))
        {
            let base = case["lr_init"].as_f64().unwrap();
            WarmupCosine { base, last: 1e-8, warmup_steps: warmup * steps, total_steps: epochs * steps }
        } else if let Some(total_steps) = number("T_max") {
            let base = case["lr_used_by_optimizer_at_step"][0].as_f64().unwrap();
            WarmupCosine { base, last: case["eta_min"].as_f64().unwrap(), warmup_steps: 0, total_steps }
        } else if let Some((steps, epochs, warmup, base)) = from_name(name) {
            WarmupCosine { base, last: 1e-8, warmup_steps: warmup * steps, total_steps: epochs * steps }
        } else {
            continue;
        };
        let rates: Vec<(u64, f64)> = match &case["lr_used_by_optimizer_at_step"] {
            serde_json::Value::Array(list) => (0..).zip(list.iter().map(|v| v.as_f64().unwrap())).collect(),
            sampled => {
                sampled.as_object().unwrap().iter().map(|(k, v)| (k.parse().unwrap(), v.as_f64().unwrap())).collect()
            }
        };
        assert!(!rates.is_empty());
        for (step, want) in rates {
            let got = schedule.rate(step);
            assert!((got - want).abs() <= 1e-9, "{name} step {step}: {got} {want}");
        }
    }
}

#[test]
fn golden_momentum_of_the_target_network() {
    let Some(schedules) = json("schedules.json") else { return };
    let cases = schedules.as_object().unwrap().iter().filter(|(_, case)| case.get("tau_used_at_step").is_some());
    for (name, case) in cases {
        let number = |key: &str| case[key].as_u64().unwrap();
        let (base, total) = (case["tau_base"].as_f64().unwrap(), number("steps_per_epoch") * number("nb_epochs"));
        for (step, want) in (0..).zip(case["tau_used_at_step"].as_array().unwrap()) {
            let (got, want) = (TargetMomentum::Cosine.at(base, Progress { step, total }), want.as_f64().unwrap());
            assert!((got - want).abs() <= 1e-9, "{name} step {step}: {got} {want}");
        }
    }
    assert_eq!(TargetMomentum::Constant.at(0.9, Progress { step: 7, total: 9 }), 0.9);
}

/// Settings of cases that have them only in their name: `…_spe97_ep800_warm10_lr4…`.
fn from_name(name: &str) -> Option<(u64, u64, u64, f64)> {
    if name.starts_with("official_resume") {
        return None;
    }
    let part = |prefix: &str| name.split('_').find_map(|p| p.strip_prefix(prefix)?.parse::<f64>().ok());
    Some((part("spe")? as u64, part("ep")? as u64, part("warm")? as u64, part("lr")?))
}

#[test]
fn squared_norms_add_in_64_bits() {
    let tensor = candle_core::Tensor::full(1e-25f32, 9, &Device::Cpu).unwrap();
    let norm = equimod_core::optim::squared_norm(&tensor).unwrap();
    assert!((norm / 9e-50 - 1.0).abs() < 1e-6, "{norm:e}");
    assert_eq!(values(&tensor).len(), 9);
}
