//! Transfers from the device to the host: none in a training step, and one at a log step for any number of steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::parts::{self, EQUIMOD, MODULES, OBJECTIVES, batch};
use common::{device, fill, values};
use equimod_core::ops::{Gate, all_finite};
use equimod_core::optim::{AdamWConfig, LarsConfig, SgdConfig, clip};
use equimod_core::{Execution, Method, OptimizerConfig, Progress, StepOutcome, host};

fn method(objective: &str, modules: &str) -> Option<Method> {
    parts::method(objective, modules, DType::F32, device(DType::F32), Execution::default())
}

fn optimizers() -> [OptimizerConfig; 3] {
    [
        OptimizerConfig::Lars(LarsConfig::default()),
        OptimizerConfig::Sgd(SgdConfig::default()),
        OptimizerConfig::AdamW(AdamWConfig::default()),
    ]
}

#[test]
fn a_step_reads_nothing_and_a_log_step_reads_once() {
    parts::assert_complete();
    let modules: Vec<&str> = MODULES.into_iter().chain([EQUIMOD]).collect();
    let pairs = OBJECTIVES.iter().flat_map(|objective| modules.iter().map(move |modules| (*objective, *modules)));
    let mut supported = 0;
    for ((objective, modules), optimizer) in pairs.flat_map(|pair| optimizers().map(|optimizer| (pair, optimizer))) {
        let Some(method) = method(objective, modules) else { continue };
        supported += 1;
        let (batch, mut optimizer) = (batch(&method), optimizer.build());
        let (before, mut outcomes) = (host::reads(), Vec::new());
        for step in 0..3 {
            let mut outcome = method.step(&batch, Progress { step, total: 3 }).unwrap();
            let norm = outcome.gradients.norm().unwrap();
            clip(&mut outcome.gradients, &norm, 0.1).unwrap();
            let gate = Gate::new(&all_finite(&[&outcome.loss, &norm]).unwrap()).unwrap();
            optimizer.gated_step(method.params(), &mut outcome.gradients, 0.01, &gate).unwrap();
            outcomes.push(outcome);
        }
        assert_eq!(host::reads() - before, 0, "{objective} {modules}");
        let scalars = |outcome: &StepOutcome| {
            let metrics = outcome.metrics.iter().map(|(_, scalar)| scalar.clone());
            std::iter::once(outcome.loss.clone()).chain(metrics).collect::<Vec<_>>()
        };
        let scalars: Vec<Tensor> = outcomes.iter().flat_map(scalars).collect();
        let read = host::read(&scalars.iter().collect::<Vec<_>>()).unwrap();
        assert!(read.iter().all(|value| value.is_finite()), "{objective} {modules}: {read:?}");
        assert_eq!(host::reads() - before, 1, "{objective} {modules}");
    }
    // The conditional predictor and the target network's cosine need an objective that has one.
    assert_eq!(supported, 3 * (7 * 9 - 4 - 5));
}

/// A flag as on a device: the update is computed and undone.
#[test]
fn an_update_is_undone_by_a_flag_on_the_device() {
    for optimizer in optimizers() {
        let method = method(OBJECTIVES[0], EQUIMOD).unwrap();
        let mut optimizer = optimizer.build();
        let weights = || method.params().trainable().map(|(_, slot)| values(slot.var.as_tensor())).collect::<Vec<_>>();
        for (flag, moves) in [(1u8, true), (0, false), (0, false)] {
            let before = weights();
            let mut outcome = method.step(&batch(&method), Progress::ONLY).unwrap();
            if !moves {
                outcome.gradients.scale(f64::NAN).unwrap();
            }
            let gate = Gate::Flag(Tensor::new(flag, &Device::Cpu).unwrap());
            optimizer.gated_step(method.params(), &mut outcome.gradients, 0.1, &gate).unwrap();
            assert_eq!(weights() != before, moves, "{flag}");
            assert!(weights().iter().flatten().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn a_factor_on_the_device_clips_as_one_on_the_host() {
    let gradients = || {
        let mut gradients = equimod_core::params::Gradients::default();
        gradients.insert("a", fill("a", &[40], 1.0, 0.0, 5)).unwrap();
        gradients
    };
    let (mut host, mut device) = (gradients(), gradients());
    let norm = host.norm().unwrap();
    clip(&mut host, &norm, 0.5).unwrap();
    let factor = ((norm + 1e-6).unwrap().recip().unwrap() * 0.5).unwrap();
    device.scale_by(&factor).unwrap();
    let pairs = values(host.get("a").unwrap()).into_iter().zip(values(device.get("a").unwrap()));
    // The factor is rounded once to f32.
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 2e-7 * a.abs().max(1e-3)));
}
