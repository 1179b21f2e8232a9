//! LARS in its common form, AdamW, SGD and clipping against PyTorch; every optimizer after saving and loading, and with
//! several threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::{distances, fill, values};
use equimod_core::checkpoint::{from_bytes, to_bytes};
use equimod_core::host::read;
use equimod_core::optim::{Optimizer, OptimizerConfig, clip};
use equimod_core::params::Gradients;
use equimod_core::params::{Init, ParamStore, Role};
use serde::Deserialize;

/// Values by name.
type Table = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Fixture {
    weights: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
    rates: Vec<f64>,
    initial: Table,
    gradients: Vec<Table>,
    cases: Vec<Case>,
    clipping: Vec<Clipping>,
}

#[derive(Deserialize)]
struct Case {
    config: OptimizerConfig,
    after: Table,
}

#[derive(Deserialize)]
struct Clipping {
    limit: f64,
    norm: f64,
    after: Table,
}

impl Fixture {
    fn read() -> Self {
        serde_json::from_str(include_str!("fixtures/optim/optimizers.json")).unwrap()
    }

    fn tensor(&self, name: &str, values: &[f64], dtype: DType) -> Tensor {
        let shape = self.shapes[name].as_slice();
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    fn store(&self, dtype: DType) -> ParamStore {
        let mut store = ParamStore::new(0, dtype, &Device::Cpu);
        for (name, values) in &self.initial {
            let role = if self.weights.contains(name) { Role::Weight } else { Role::Other };
            let shape = self.shapes[name].as_slice();
            let var = store.root().parameter(name, shape, Init::Constant(0.0), role).unwrap();
            var.set(&self.tensor(name, values, dtype)).unwrap();
        }
        store
    }

    fn gradients(&self, step: usize, dtype: DType) -> Gradients {
        let mut gradients = Gradients::default();
        for (name, values) in &self.gradients[step] {
            gradients.insert(name, self.tensor(name, values, dtype)).unwrap();
        }
        gradients
    }

    fn run(&self, store: &ParamStore, optimizer: &mut dyn Optimizer, steps: std::ops::Range<usize>) {
        for step in steps {
            let mut gradients = self.gradients(step, store.dtype());
            optimizer.step(store, &mut gradients, self.rates[step]).unwrap();
        }
    }
}

/// Tolerances: rounding in f64; in f32 the floor of the golden tolerances, 4e-6 of the largest value, here about 1.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-14 } else { 4e-6 }
}

fn all(store: &ParamStore) -> Table {
    store.trainable().map(|(name, slot)| (name.to_owned(), values(slot.var.as_tensor()))).collect()
}

#[test]
fn optimizers_are_pytorchs() {
    let fixture = Fixture::read();
    assert!(fixture.cases.iter().all(|case| case.after.len() == fixture.initial.len()));
    for dtype in [DType::F64, DType::F32] {
        for case in &fixture.cases {
            let store = fixture.store(dtype);
            fixture.run(&store, case.config.build().as_mut(), 0..fixture.rates.len());
            for (name, got) in all(&store) {
                let (off, _) = distances(&got, &case.after[&name]);
                assert!(off <= tolerance(dtype), "{:?}, {name}, {dtype:?}: off by {off:e}", case.config);
            }
        }
    }
}

#[test]
fn saved_state_goes_on_bit_for_bit() {
    let fixture = Fixture::read();
    for dtype in [DType::F64, DType::F32] {
        for Case { config, .. } in &fixture.cases {
            let (whole, parts) = (fixture.store(dtype), fixture.store(dtype));
            fixture.run(&whole, config.build().as_mut(), 0..5);
            let mut optimizer = config.build();
            for step in 0..5 {
                let file = to_bytes(&optimizer.state(), "{}").unwrap();
                optimizer = config.build();
                optimizer.load_state(from_bytes(&file, Path::new("state"), &Device::Cpu).unwrap().tensors).unwrap();
                fixture.run(&parts, optimizer.as_mut(), step..step + 1);
            }
            assert_eq!(all(&whole), all(&parts), "{config:?}, {dtype:?}");
        }
    }
}

#[test]
fn states_are_named_after_the_parameters_and_told_apart() {
    let fixture = Fixture::read();
    let state = |kind: &str| {
        let config: OptimizerConfig = serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap();
        let (store, mut optimizer) = (fixture.store(DType::F32), config.build());
        fixture.run(&store, optimizer.as_mut(), 0..2);
        let state = optimizer.state();
        (optimizer, state)
    };
    let ((mut adamw, moments), (mut sgd, momentum), (mut lars, same)) = (state("adamw"), state("sgd"), state("lars"));
    assert_eq!(moments["steps"].to_scalar::<i64>().unwrap(), 2);
    assert_eq!((moments["moments.layer.weight"].dims(), moments.len()), (&[3, 7, 2][..], 6));
    assert_eq!((momentum["momentum.layer.weight"].dims(), momentum.len()), (&[3, 7][..], 5));
    assert!(momentum.keys().eq(same.keys()) && lars.load_state(momentum.clone()).is_ok());
    assert!(adamw.load_state(momentum).unwrap_err().to_string().contains("no number of steps"));
    assert!(sgd.load_state(moments).unwrap_err().to_string().contains("moments.layer.bias"));
}

#[test]
fn steps_are_the_same_bits_for_any_number_of_threads() {
    let with = |config: &OptimizerConfig, dtype: DType, threads: usize| -> Vec<f64> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            // More values than two tasks process, and not a multiple of a task.
            let values = |name: &str| fill(name, (7, 10_007), 1.0, 0.0, 0).to_dtype(dtype).unwrap();
            let mut store = ParamStore::new(0, dtype, &Device::Cpu);
            let var = store.root().parameter("w", (7, 10_007), Init::Constant(0.0), Role::Weight).unwrap();
            var.set(&values("w")).unwrap();
            let mut optimizer = config.build();
            for name in ["first", "second"] {
                let mut gradients = Gradients::default();
                gradients.insert("w", values(name)).unwrap();
                let norm = gradients.norm().unwrap();
                clip(&mut gradients, &norm, 1.0).unwrap();
                optimizer.step(&store, &mut gradients, 0.1).unwrap();
            }
            common::values(var.as_tensor())
        })
    };
    for dtype in [DType::F64, DType::F32] {
        for Case { config, .. } in &Fixture::read().cases {
            assert_eq!(with(config, dtype, 1), with(config, dtype, 2), "{config:?}, {dtype:?}");
        }
    }
}

#[test]
fn clipping_is_pytorchs() {
    let fixture = Fixture::read();
    for dtype in [DType::F64, DType::F32] {
        for Clipping { limit, norm, after } in &fixture.clipping {
            let mut gradients = fixture.gradients(0, dtype);
            let own = gradients.norm().unwrap();
            let value = read(&[&own]).unwrap()[0];
            assert!((value / norm - 1.0).abs() <= tolerance(dtype), "{value} {norm}");
            clip(&mut gradients, &own, *limit).unwrap();
            for (name, got) in gradients.iter() {
                let (off, _) = distances(&values(got), &after[name]);
                assert!(off <= tolerance(dtype), "limit {limit}, {name}, {dtype:?}: off by {off:e}");
            }
        }
    }
}

#[test]
fn a_limit_of_zero_clips_nothing_and_shared_memory_is_left_alone() {
    let shared = Tensor::new(&[3f32, 4.0], &Device::Cpu).unwrap();
    let mut gradients = Gradients::default();
    gradients.insert("a", shared.clone()).unwrap();
    gradients.insert("b", shared.clone()).unwrap();
    let norm = Tensor::new(50f64.sqrt(), &Device::Cpu).unwrap();
    clip(&mut gradients, &norm, 0.0).unwrap();
    assert_eq!(values(gradients.get("a").unwrap()), [3.0, 4.0]);
    clip(&mut gradients, &norm, 0.5).unwrap();
    assert!((read(&[&gradients.norm().unwrap()]).unwrap()[0] - 0.5).abs() < 1e-6);
    assert_eq!(values(&shared), [3.0, 4.0]);
}

#[test]
fn settings_out_of_range_are_told_in_a_sentence_each() {
    let problems = |text: &str| serde_json::from_str::<OptimizerConfig>(text).unwrap().validate();
    assert!(problems(r#"{"kind": "adamw"}"#).is_empty());
    assert!(problems(r#"{"kind": "lars", "form": "common", "nesterov": true}"#).is_empty());
    let all = problems(r#"{"kind": "adamw", "beta1": 1, "beta2": -0.1, "epsilon": 0, "weight_decay": -1}"#);
    for (problem, name) in
        all.iter().zip(["optimizer.beta1", "optimizer.beta2", "optimizer.weight_decay", "optimizer.epsilon"])
    {
        assert!(problem.contains(name), "{problem}");
    }
    assert_eq!((all.len(), problems(r#"{"kind": "sgd", "momentum": 1}"#).len()), (4, 1));
    for wrong in [r#"{"kind": "adamw", "momentum": 0.9}"#, r#"{"kind": "lars", "form": "own"}"#] {
        assert!(serde_json::from_str::<OptimizerConfig>(wrong).is_err(), "{wrong}");
    }
}
