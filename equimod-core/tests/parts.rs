//! Micro-batches, in f64: losses and gradients are those of the whole batch, except for batch norm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{distances, fill, values};
use equimod_core::{
    Execution, Method, MethodConfig, Mode, Parameters, Placement, Progress, SingleProcess, StepBatch, StepOutcome,
};

/// Relative distance of gradients that are equal up to rounding.
const ROUNDING: f64 = 1e-10;

const SIMCLR: &str = r#"{"kind": "simclr", "projection_head": "8-4 bn-"}"#;
const BYOL: &str = r#"{"kind": "byol", "projection_head": "8-4 bias", "predictor": "6-4 bias"}"#;
const EQUIMOD: &str = r#"{"equimod": {"projection_head": "8-4 bn-", "parameter_head": "3 bn", "predictor": "4 bn-"}}"#;
const TAPPED: &str = r#"{"equimod": {"tap": "stage2", "projection_head": "8-4 bn-", "parameter_head": "3 bn",
    "predictor": "4 bn-"}, "essl": {"hidden": 5, "size": 6}}"#;

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 5).to_dtype(DType::F64).unwrap()
}

fn method(objective: &str, modules: &str, parts: usize) -> Method {
    method_in(DType::F64, objective, modules, parts)
}

fn method_in(dtype: DType, objective: &str, modules: &str, parts: usize) -> Method {
    let text = format!(r#"{{"backbone": {{"width": 2}}, "objective": {objective}, "equivariance": {modules}}}"#);
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    let (collective, device, execution) =
        (SingleProcess::shared(), &Device::Cpu, Execution { parts, ..Default::default() });
    let placement = Placement { seed: 3, dtype, device, image_size: 8, collective, execution };
    let method = Method::new(&config, &Parameters::of_views(3), placement).unwrap();
    for (name, slot) in method.params().iter().filter(|(name, _)| name.ends_with("bn2.weight")) {
        let values = random(name, slot.var.dims()).affine(0.3, 0.7).unwrap();
        slot.var.set(&values.to_dtype(dtype).unwrap()).unwrap();
    }
    method
}

/// `distinct` different images, all of them `times` times.
fn batch(method: &Method, distinct: usize, times: usize) -> StepBatch {
    let needs = method.needs();
    let repeated = |one: Tensor| Tensor::cat(&vec![one; times], 0).unwrap();
    let images = |name: &str, side: usize| repeated(random(name, &[distinct, 3, side, side]));
    let params = ["params 1", "params 2"].map(|name| repeated(random(name, &[distinct, 3])));
    StepBatch {
        clean: needs.clean_view.then(|| images("clean", 8)),
        small: needs.small.is_some().then(|| images("small", 6)),
        params: needs.parameters.then(|| Tensor::cat(&params, 0).unwrap()),
        ..StepBatch::of_views([images("view 1", 8), images("view 2", 8)])
    }
}

fn assert_same(case: &str, whole: &StepOutcome, parts: &StepOutcome) {
    let [one, other] = [whole, parts].map(|outcome| outcome.read().unwrap().loss);
    assert!((one / other - 1.0).abs() < ROUNDING, "{case}: {one} and {other}");
    assert_eq!(whole.gradients.iter().count(), parts.gradients.iter().count());
    for (name, gradient) in whole.gradients.iter() {
        let (most, relative) = distances(&values(parts.gradients.get(name).unwrap()), &values(gradient));
        // Gradients that are zero up to rounding, as those before a batch norm, have no relative distance.
        assert!(relative < ROUNDING || most < 1e-12, "{case}: {name} is off by {relative:e}, {most:e} at most");
    }
}

#[test]
fn with_batch_norm_frozen_parts_give_the_gradients_of_the_whole_batch() {
    for (objective, modules) in [(SIMCLR, EQUIMOD), (SIMCLR, TAPPED), (r#"{"kind": "none"}"#, TAPPED)] {
        let of = |parts: usize| {
            let method = method(objective, modules, parts);
            let before = method.params().deep_copy().unwrap();
            let outcome = method.gradients(&batch(&method, 5, 1), Progress::ONLY, Mode::Eval).unwrap();
            for (name, slot) in method.params().iter() {
                let after = slot.var.as_tensor().to_dtype(DType::F64).unwrap();
                assert_eq!(values(&after), values(&before[name].to_dtype(DType::F64).unwrap()), "{name} moved");
            }
            outcome
        };
        let whole = of(1);
        for parts in [2, 3, 5, 9] {
            assert_same(&format!("{objective} {modules} in {parts} parts"), &whole, &of(parts));
        }
    }
}

#[test]
fn with_batch_norm_frozen_gradients_in_f32_are_those_in_f64() {
    let of = |dtype: DType| {
        let method = method_in(dtype, SIMCLR, "{}", 1);
        let views = batch(&method, 5, 1).views.map(|view| view.to_dtype(dtype).unwrap());
        method.gradients(&StepBatch::of_views(views), Progress::ONLY, Mode::Eval).unwrap().gradients
    };
    let (narrow, wide) = (of(DType::F32), of(DType::F64));
    for (name, gradient) in wide.iter() {
        let got = narrow.get(name).unwrap().to_dtype(DType::F64).unwrap();
        let (most, relative) = distances(&values(&got), &values(gradient));
        assert!(relative < 1e-4 || most < 1e-6, "{name} is off by {relative:e}, {most:e} at most");
    }
}

/// Batch norm sees the same in every part as in the whole where every part holds the same images.
#[test]
fn parts_that_are_alike_give_the_gradients_of_the_whole_batch_in_training() {
    for (objective, modules) in [(SIMCLR, EQUIMOD), (BYOL, EQUIMOD), (BYOL, TAPPED)] {
        let of = |parts: usize| {
            let method = method(objective, modules, parts);
            let outcome = method.step(&batch(&method, 4, 3), Progress { step: 1, total: 4 }).unwrap();
            let passes = method.params().get("backbone.bn1.num_batches_tracked").unwrap();
            let passes = passes.var.as_tensor().to_scalar::<i64>().unwrap();
            (outcome, passes)
        };
        let ((whole, once), (parts, thrice)) = (of(1), of(3));
        assert_same(&format!("{objective} {modules}"), &whole, &parts);
        // Running statistics move once a part and pass: turned views are a pass of their own.
        assert_eq!(thrice, 3 * once);
    }
}

#[test]
fn parts_that_differ_change_what_batch_norm_sees() {
    let of = |parts: usize| {
        let method = method(SIMCLR, EQUIMOD, parts);
        method.step(&batch(&method, 6, 1), Progress::ONLY).unwrap().read().unwrap().loss
    };
    assert!((of(1) - of(2)).abs() > 1e-6);
}
