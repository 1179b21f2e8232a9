//! In-place steps against the same steps composed of candle's operations.

use candle_core::{D, Var};

use super::super::contract::OptimizerOps;
use super::*;
use crate::ops::Gate;

/// Values in ±1, whose number is a multiple of neither vectors nor tasks.
fn wave(seed: f64, dtype: DType) -> Tensor {
    let values: Vec<f64> = (0..37_037).map(|i| (f64::from(i) * 0.7311 + seed).sin()).collect();
    Tensor::from_vec(values, (37, 7, 11, 13), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

type Step<'a> = &'a dyn Fn(&dyn OptimizerOps, &Var, &Var, &Tensor);

/// Three steps of both backends from the same values. They round in different orders, so a few ulps (6e-8, 1e-16) are
/// allowed.
fn check(steps: &[Step], buffer: impl Fn(DType) -> Tensor, tolerances: [f64; 2]) {
    for (dtype, tolerance) in [DType::F32, DType::F64].into_iter().zip(tolerances) {
        for (number, step) in steps.iter().enumerate() {
            let new = || [wave(0.1, dtype), buffer(dtype)].map(|t| Var::from_tensor(&t).unwrap());
            let ([weight, memory], [other_weight, other_memory]) = (new(), new());
            for seed in [1.0, 2.0, 3.0] {
                let gradient = wave(seed, dtype);
                step(super::super::of(&weight), &weight, &memory, &gradient);
                step(&Composed, &other_weight, &other_memory, &gradient);
                let off = [distance(&weight, &other_weight), distance(&memory, &other_memory)];
                assert!(off.iter().all(|off| *off <= tolerance), "step {number}, {dtype:?}: off by {off:?}");
            }
        }
    }
}

const INSIDE: MomentumRule = MomentumRule { momentum: 0.9, decay: 0.01, inner: 0.3, outer: 1.0, nesterov: false };
const OUTSIDE: MomentumRule = MomentumRule { inner: 0.01, outer: 0.4, ..INSIDE };

fn momentum_rules() -> [MomentumRule; 4] {
    let ahead = |rule: MomentumRule| MomentumRule { nesterov: true, ..rule };
    [INSIDE, OUTSIDE, ahead(INSIDE), ahead(OUTSIDE)]
}

#[test]
fn both_forms_of_momentum_agree() {
    for rule in momentum_rules() {
        let step: Step = &|backend, w, buffer, g| backend.momentum_step(w, buffer, g, &rule).unwrap();
        check(&[step], |dtype| wave(0.7, dtype), [1e-6, 1e-14]);
    }
}

#[test]
fn both_forms_of_lars_agree() {
    for (step, by_product) in momentum_rules().into_iter().flat_map(|rule| [(rule, true), (rule, false)]) {
        let rule = LarsRule { step, trust_coefficient: 0.1, adaptation: 0.8, by_product };
        let step: Step = &|backend, w, buffer, g| backend.lars_step(w, buffer, g, &rule).unwrap();
        // Composed norms are f32, of 37 037 values.
        check(&[step], |dtype| wave(0.7, dtype), [1e-5, 1e-5]);
    }
}

/// A weight or a gradient of zeros has the trust ratio 1.
#[test]
fn trust_is_one_without_a_norm() {
    let rule = LarsRule { step: OUTSIDE, trust_coefficient: 0.1, adaptation: 1.0, by_product: true };
    for (weight, gradient) in [(0.0f32, 1.0f32), (1.0, -0.01)] {
        let of = |value: f32| Var::from_slice(&[value; 3], 3, &Device::Cpu).unwrap();
        let step = |backend: &dyn OptimizerOps| {
            let (w, buffer) = (of(weight), of(0.0));
            backend.lars_step(&w, &buffer, &of(gradient), &rule).unwrap();
            vector(&w)
        };
        // −lr·inner·(gradient + decay·w), which is 0 for the second gradient.
        let moved = f64::from(weight) - 0.4 * 0.01 * (f64::from(gradient) + 0.01 * f64::from(weight));
        for found in [step(&Composed), step(super::super::of(&of(weight)))] {
            assert!(found.iter().all(|value| (value - moved).abs() < 1e-7), "{found:?} {moved}");
        }
    }
}

#[test]
fn both_forms_of_adamw_agree() {
    let first = AdamWRule { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, kept: 1.0, rate: 0.1, root: 0.03 };
    let later = AdamWRule { beta1: 0.5, beta2: 0.9, epsilon: 1e-2, kept: 0.99, rate: 0.01, root: 0.9 };
    // A mean of squares is not negative.
    let moments = |dtype| Tensor::stack(&[wave(0.7, dtype), wave(0.8, dtype).sqr().unwrap()], D::Minus1).unwrap();
    for rule in [first, later] {
        let step: Step = &|backend, w, moments, g| backend.adamw_step(w, moments, g, &rule).unwrap();
        check(&[step], moments, [1e-6, 1e-14]);
    }
}

#[test]
fn moving_averages_are_those_of_candles_operations_to_the_bit() {
    for (dtype, kept) in [(DType::F32, 0.996), (DType::F64, 0.996), (DType::F32, 0.0), (DType::F32, 1.0)] {
        let target = || Var::from_tensor(&wave(0.1, dtype)).unwrap();
        let (ours, composed, source) = (target(), target(), wave(0.3, dtype));
        super::super::of(&ours).move_towards(&ours, &source, kept).unwrap();
        Composed.move_towards(&composed, &source, kept).unwrap();
        assert_eq!(vector(&ours), vector(&composed), "{dtype:?} {kept}");
    }
}

#[test]
fn norms_agree() {
    for dtype in [DType::F32, DType::F64] {
        let xs = wave(0.2, dtype);
        let of = |backend: &dyn OptimizerOps| vector(&backend.squared_norm(&xs).unwrap())[0];
        let (ours, composed) = (of(super::super::of(&xs)), of(&Composed));
        assert!((ours - composed).abs() < 1e-5 * ours, "{ours} {composed}");
    }
}

#[test]
fn steps_whose_shapes_do_not_fit_are_refused() {
    let of = |count: usize| Var::zeros(count, DType::F32, &Device::Cpu).unwrap();
    let step = |buffer: usize, rule: StepRule| {
        let step = ParameterStep { weight: of(3), buffer: of(buffer), gradient: of(3).as_detached_tensor(), rule };
        parameter_steps(vec![step], &Gate::Open)
    };
    let error = step(2, StepRule::Momentum(INSIDE)).unwrap_err().to_string();
    assert!(error.contains("[3]") && error.contains("[2]"), "{error}");
    let rule = AdamWRule { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, kept: 1.0, rate: 0.1, root: 0.03 };
    assert!(step(3, StepRule::AdamW(rule)).is_err());
    assert!(move_all_towards(&[(of(3), of(2).as_detached_tensor())], 0.5, &Gate::Open).is_err());
}
