//! Every objective and every equivariance module on the device that `EQUIMOD_TEST_DEVICE` names (the CPU by default), in
//! f32 and bf16, against f64 on the CPU.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::parts::{self, EQUIMOD, MODULES, OBJECTIVES};
use common::{device, fill};
use equimod_core::collective::SingleProcess;
use equimod_core::optim::{LarsConfig, Progress};
use equimod_core::parameters::PairValue;
use equimod_core::{
    Execution, Method, MethodConfig, OptimizerConfig, Parameters, Placement, Precision, StepBatch, host,
};

const IMAGES: usize = 4;
const SIDE: usize = 8;

/// A method with small parts; `None` if the objective does not support the module.
fn method(objective: &str, modules: &str, dtype: DType, execution: Execution) -> Option<Method> {
    let text = format!(r#"{{"backbone": {{"width": 2}}, "objective": {objective}, "equivariance": {modules}}}"#);
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    if !config.validate(SIDE).is_empty() {
        return None;
    }
    let flag = |name: &str, augmentation: &str, flag: bool| PairValue {
        name: name.into(),
        augmentation: augmentation.into(),
        mean: 0.0,
        std: 1.0,
        reach: 1.0,
        flag,
    };
    let pair = vec![flag("top", "crop", false), flag("flip", "horizontal-flip", true)];
    let parameters = Parameters { pair, ..Parameters::of_views(3) };
    let (collective, device) = (SingleProcess::shared(), device(dtype));
    let placement = Placement { seed: 3, dtype, device, image_size: SIDE, collective, execution };
    Some(Method::new(&config, &parameters, placement).unwrap())
}

fn batch(method: &Method) -> StepBatch {
    let (needs, dtype, device) = (method.needs(), method.params().dtype(), method.params().device());
    let on = |t: Tensor| t.to_dtype(dtype).unwrap().to_device(device).unwrap();
    let random = |name: &str, dims: &[usize]| on(fill(name, dims, 1.0, 0.0, 5));
    let images = |name: &str, side: usize| random(name, &[IMAGES, 3, side, side]);
    let flags = (0..2 * IMAGES).flat_map(|row| [(row as f32 * 0.7).sin(), (row % 3) as f32 - 1.0]).collect::<Vec<_>>();
    StepBatch {
        clean: needs.clean_view.then(|| images("clean", SIDE)),
        small: needs.small.map(|small| images("small", small.size)),
        params: Some(random("params", &[2 * IMAGES, 3])),
        pairs: Some(on(Tensor::from_vec(flags, (2 * IMAGES, 2), &Device::Cpu).unwrap())),
        ..StepBatch::of_views([images("view 1", SIDE), images("view 2", SIDE)])
    }
}

/// Loss and gradient norm of a first step, and the loss of a second one, after an update.
fn two_steps(method: &Method) -> Vec<f64> {
    let (batch, mut optimizer) = (batch(method), OptimizerConfig::Lars(LarsConfig::default()).build());
    let mut outcome = method.step(&batch, Progress { step: 0, total: 2 }).unwrap();
    let norm = outcome.gradients.norm().unwrap();
    optimizer.step(method.params(), &mut outcome.gradients, 0.1).unwrap();
    let second = method.step(&batch, Progress { step: 1, total: 2 }).unwrap();
    host::read(&[&outcome.loss, &norm, &second.loss]).unwrap()
}

fn check(execution: Execution, tolerances: [f64; 3]) {
    parts::assert_complete();
    let modules: Vec<&str> = MODULES.into_iter().chain([EQUIMOD]).collect();
    let mut checked = 0;
    for (objective, modules) in OBJECTIVES.iter().flat_map(|objective| modules.iter().map(move |m| (objective, m))) {
        let Some(exact) = method(objective, modules, DType::F64, Execution::default()) else { continue };
        // Every other method recomputes activations.
        let execution = Execution { recompute: checked % 2 == 1, ..execution };
        let Some(tested) = method(objective, modules, DType::F32, execution) else { continue };
        let names = ["loss", "gradient norm", "loss after an update"];
        for ((name, (wanted, found)), tolerance) in
            names.iter().zip(two_steps(&exact).into_iter().zip(two_steps(&tested))).zip(tolerances)
        {
            let off = (found - wanted).abs() / wanted.abs().max(1.0);
            assert!(off <= tolerance, "{objective} {modules}: {name} {found} for {wanted}, off by {off:.1e}");
        }
        checked += 1;
    }
    // The conditional predictor and the target network's cosine need an objective that has one.
    assert_eq!(checked, 7 * 9 - 4 - 5);
}

#[test]
fn every_objective_and_module_agrees_with_f64_in_f32() {
    check(Execution::default(), [1e-5, 1e-3, 1e-4]);
}

#[test]
fn every_objective_and_module_comes_near_f64_in_bf16() {
    // An update of a network this small amplifies rounding.
    check(Execution { precision: Precision::Bf16, ..Execution::default() }, [5e-2, 5e-1, f64::INFINITY]);
}
