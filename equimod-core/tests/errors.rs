//! Typical mistakes in the public API: their errors can be matched on, and their messages name the problem, its place
//! and the remedy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use equimod_core::objective::barlow_twins;
use equimod_core::optim::OptimizerConfig;
use equimod_core::{
    Error, Execution, Method, MethodConfig, Model, Normalization, ParamStore, Parameters, Placement, Progress,
    SingleProcess, StepBatch,
};

const SIMCLR: &str = r#"{"kind": "simclr", "projection_head": "8-4 bn-"}"#;
const EQUIMOD: &str = r#"{"projection_head": "8-4 bn-", "parameter_head": "3 bn", "predictor": "4 bn-"}"#;

/// A method on a small ResNet, with augmentation parameter vectors of `parameters` values.
fn method(objective: &str, equimod: Option<&str>, parameters: usize) -> equimod_core::Result<Method> {
    let modules = equimod.map_or_else(|| "{}".to_owned(), |settings| format!(r#"{{"equimod": {settings}}}"#));
    let text = format!(r#"{{"backbone": {{"width": 2}}, "objective": {objective}, "equivariance": {modules}}}"#);
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    let (collective, device, execution) = (SingleProcess::shared(), &Device::Cpu, Execution::default());
    let placement = Placement { seed: 1, dtype: DType::F32, device, image_size: 8, collective, execution };
    Method::new(&config, &Parameters::of_views(parameters), placement)
}

fn error<T>(result: equimod_core::Result<T>) -> Error {
    result.err().expect("a mistake is refused")
}

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
}

#[test]
fn a_setting_that_builds_nothing_is_named_with_its_value() {
    let refused = error(method(r#"{"kind": "none"}"#, None, 3));
    assert!(refused.concerns_settings());
    let message = refused.to_string();
    let Error::InvalidSetting { setting, value, reason } = refused else { panic!("{refused:?}") };
    assert_eq!((setting.as_str(), value.as_str()), ("objective.kind", "\"none\""));
    assert!(reason.contains("turn one on"), "{reason}");
    assert!(message.contains(&setting) && message.contains(&value) && message.contains(&reason), "{message}");
    // The key of a predictor is in its module.
    let settings = EQUIMOD.replace("4 bn-\"}", "5 bn-\"}");
    let refused = error(method(SIMCLR, Some(&settings), 3));
    let Error::InvalidSetting { setting, value, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((setting.as_str(), value.as_str()), ("equivariance.equimod.predictor", "\"5 bn-\""));
}

#[test]
fn a_stage_or_module_that_is_not_there_is_named_with_those_that_are() {
    let settings = EQUIMOD.replacen('{', r#"{"tap": "stage9", "#, 1);
    let refused = error(method(SIMCLR, Some(&settings), 3));
    assert_eq!(refused.to_string(), "there is no stage 9; the backbone has 4 stages, counted from 1");
    assert!(matches!(refused, Error::NotFound { kind: "stage", name, .. } if name == "9"));
    let method = method(SIMCLR, Some(EQUIMOD), 3).unwrap();
    let refused = error(method.module("care"));
    assert!(matches!(refused, Error::NotFound { name, known, .. } if name == "care" && known.contains("equimod")));
}

#[test]
fn an_absent_input_says_where_it_comes_from() {
    let refused = error(method(SIMCLR, Some(EQUIMOD), 0));
    assert!(refused.concerns_settings());
    assert!(matches!(refused, Error::MissingInput { input: "the parameters of views", .. }), "{refused}");
    let (method, views) = (method(SIMCLR, Some(EQUIMOD), 3).unwrap(), [random(&[4, 3, 8, 8]), random(&[4, 3, 8, 8])]);
    let missing = |batch: &StepBatch| match error(method.step(batch, Progress::ONLY)) {
        Error::MissingInput { input, remedy } => (input, remedy),
        other => panic!("{other}"),
    };
    let mut batch = StepBatch::of_views(views);
    assert_eq!(missing(&batch), ("the original images", "fill StepBatch::clean"));
    batch.clean = Some(random(&[4, 3, 8, 8]));
    assert_eq!(missing(&batch), ("the parameters of views", "fill StepBatch::params"));
    batch.params = Some(random(&[8, 3]));
    assert!(method.step(&batch, Progress::ONLY).unwrap().read().unwrap().loss.is_finite());
}

#[test]
fn a_batch_that_is_too_small_or_uneven_says_by_how_much() {
    let refused = error(barlow_twins(&random(&[2, 4]), 0.005, &SingleProcess));
    assert_eq!(refused.to_string(), "Barlow Twins needs at least 2 images, got 1; use a larger batch");
    assert!(matches!(refused, Error::BatchSize { least: 2, multiple_of: 1, found: 1, .. }));
    let refused = error(equimod_core::objective::nt_xent(&random(&[3, 4]), 0.5, &SingleProcess));
    assert_eq!(refused.to_string(), "NT-Xent needs a positive multiple of 2 rows, got 3; use another batch size");
    assert!(matches!(refused, Error::BatchSize { part: "NT-Xent", multiple_of: 2, found: 3, .. }));
}

#[test]
fn pixels_that_are_not_whole_images_say_both_sizes() {
    let refused = error(Normalization::CIFAR10.tensor(&[0; 100], (2, 8, 8), &Device::Cpu, DType::F32));
    let Error::ShapeMismatch { what, expected, found } = refused else { panic!("{refused:?}") };
    assert_eq!((expected.as_str(), found.as_str()), ("384 bytes", "100 bytes"));
    assert!(what.contains("2 images of 8 × 8"), "{what}");
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let mut store = ParamStore::new(1, DType::F32, &Device::Cpu);
    store.root().counter("steps").unwrap();
    let refused = error(store.root().counter("steps"));
    assert!(matches!(refused, Error::Duplicate { kind: "parameter", name } if name == "steps"));
}

#[test]
fn the_state_of_another_optimizer_is_refused_by_its_entry() {
    let optimizer = |kind: &str| serde_json::from_str::<OptimizerConfig>(&format!(r#"{{"kind": "{kind}"}}"#)).unwrap();
    let state = [("adamw.unknown".to_owned(), random(&[1]))].into();
    let refused = error(optimizer("sgd").build().load_state(state));
    assert!(matches!(&refused, Error::OptimizerState { entry, .. } if entry == "adamw.unknown"), "{refused}");
    let refused = error(optimizer("adamw").build().load_state([].into()));
    assert!(matches!(refused, Error::OptimizerState { problem, .. } if problem.contains("no number of steps")));
}

#[test]
fn files_are_no_matter_of_settings() {
    let refused = error(Model::load(Path::new("no-such-model.safetensors"), &Device::Cpu));
    assert!(!refused.concerns_settings());
    assert!(matches!(refused, Error::Checkpoint { path, .. } if path == Path::new("no-such-model.safetensors")));
}
