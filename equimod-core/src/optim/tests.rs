//! The form of every rule that works in place against the one composed of candle's operations.

use candle_core::{D, DType, Device, Tensor};

use super::adamw::AdamWRule;
use super::in_place::{Rule, step};
use super::momentum::MomentumRule;

/// Values in ±1 of a number that neither vectors nor tasks divide.
fn values(seed: f64, dtype: DType) -> Tensor {
    let values: Vec<f64> = (0..37_037).map(|i| (f64::from(i) * 0.7311 + seed).sin()).collect();
    Tensor::from_vec(values, (37, 7, 11, 13), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// ‖a − b‖/‖b‖.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let norm = |t: Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm((wide(a) - wide(b)).unwrap()) / norm(wide(b))
}

/// Three steps of both forms from the same values. They round in another order: some ulps (6e-8, 1e-16) are allowed.
fn check<const N: usize>(rules: &[impl Rule<N> + Clone], buffer: impl Fn(DType) -> Tensor) {
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
        for (number, rule) in rules.iter().enumerate() {
            let (weight, memory) = (values(0.1, dtype), buffer(dtype));
            let mut composed = (weight.copy().unwrap(), memory.copy().unwrap());
            for seed in [1.0, 2.0, 3.0] {
                let gradient = values(seed, dtype);
                step(&weight, &memory, &gradient, rule.clone()).unwrap();
                composed = rule.composed(&composed.0, &composed.1, &gradient).unwrap();
                assert_eq!(composed.1.dims(), memory.dims());
                let off = [distance(&weight, &composed.0), distance(&memory, &composed.1)];
                assert!(off.iter().all(|off| *off <= tolerance), "rule {number}, {dtype:?}: off by {off:?}");
            }
        }
    }
}

#[test]
fn both_forms_of_momentum_agree() {
    let inside = MomentumRule { momentum: 0.9, decay: 0.01, inner: 0.3, outer: 1.0, nesterov: false };
    let outside = MomentumRule { inner: 0.01, outer: 0.4, ..inside };
    let rules = [inside, outside].map(|rule| [rule, MomentumRule { nesterov: true, ..rule }]).concat();
    check(&rules, |dtype| values(0.7, dtype));
}

#[test]
fn both_forms_of_adamw_agree() {
    let first = AdamWRule { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, kept: 1.0, rate: 0.1, root: 0.03 };
    let later = AdamWRule { beta1: 0.5, beta2: 0.9, epsilon: 1e-2, kept: 0.99, rate: 0.01, root: 0.9 };
    // A mean of squares is not negative.
    let moments = |dtype| Tensor::stack(&[values(0.7, dtype), values(0.8, dtype).sqr().unwrap()], D::Minus1).unwrap();
    check(&[first, later], moments);
}
