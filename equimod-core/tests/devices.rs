//! Every objective and every equivariance module on the device that `EQUIMOD_TEST_DEVICE` names (the CPU by default), in
//! f32 and bf16, against f64 on the CPU.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use candle_core::{DType, Device};
use common::device;
use common::parts::{self, EQUIMOD, MODULES, OBJECTIVES, batch, method};
use equimod_core::optim::{LarsConfig, Progress};
use equimod_core::{Execution, Method, OptimizerConfig, Precision, host};

/// Loss and gradient norm of a first step, and the loss of a second one, after an update.
fn two_steps(method: &Method) -> Vec<f64> {
    let (batch, mut optimizer) = (batch(method), OptimizerConfig::Lars(LarsConfig::default()).build());
    let mut outcome = method.step(&batch, Progress { step: 0, total: 2 }).unwrap();
    let norm = outcome.gradients.norm().unwrap();
    optimizer.step(method.params(), &mut outcome.gradients, 0.1).unwrap();
    let second = method.step(&batch, Progress { step: 1, total: 2 }).unwrap();
    host::read(&[&outcome.loss, &norm, &second.loss]).unwrap()
}

/// Checks as many of these numbers as there are tolerances.
fn check(execution: Execution, tolerances: &[f64]) {
    parts::assert_complete();
    let modules: Vec<&str> = MODULES.into_iter().chain([EQUIMOD]).collect();
    let mut checked = 0;
    for (objective, modules) in OBJECTIVES.iter().flat_map(|objective| modules.iter().map(move |m| (objective, m))) {
        let Some(exact) = method(objective, modules, DType::F64, &Device::Cpu, Execution::default()) else { continue };
        // Every other method recomputes activations.
        let execution = Execution { recompute: checked % 2 == 1, ..execution };
        let Some(tested) = method(objective, modules, DType::F32, device(DType::F32), execution) else { continue };
        let names = ["loss", "gradient norm", "loss after an update"];
        let (wanted, found) = (two_steps(&exact), two_steps(&tested));
        assert!(found.iter().all(|number| number.is_finite()), "{objective} {modules}: {found:?}");
        for ((name, (wanted, found)), tolerance) in names.iter().zip(wanted.into_iter().zip(found)).zip(tolerances) {
            let off = (found - wanted).abs() / wanted.abs().max(1.0);
            assert!(off <= *tolerance, "{objective} {modules}: {name} {found} for {wanted}, off by {off:.1e}");
        }
        checked += 1;
    }
    // The conditional predictor and the target network's cosine need an objective that has one.
    assert_eq!(checked, 7 * 9 - 4 - 5);
}

#[test]
fn every_objective_and_module_agrees_with_f64_in_f32() {
    check(Execution::default(), &[1e-5, 1e-3, 1e-4]);
}

#[test]
fn every_objective_and_module_comes_near_f64_in_bf16() {
    // An update of a network this small amplifies rounding.
    check(Execution { precision: Precision::Bf16, ..Execution::default() }, &[5e-2, 5e-1]);
}
