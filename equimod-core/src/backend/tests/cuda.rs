//! The CUDA backend against the CPU's f64 path, in f32 and bf16.
//!
//! Inputs of the f64 path are rounded to the element type of the device, so that only the device's own rounding is
//! measured.

use std::sync::OnceLock;

use candle_core::Var;

use super::super::contract::{ImageOps, PixelOperation, PixelShape, Resampling, ViewProgram, ViewPrograms};
use super::super::cpu_portable::CpuPortable;
use super::super::cuda::{Cuda, WITHOUT_CUDNN, open};
use super::*;

/// Element types with the largest relative error of an operation's result.
const TYPES: [(DType, f64); 2] = [(DType::F32, 2e-6), (DType::BF16, 4e-3)];

fn gpu() -> &'static Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| open(0).unwrap())
}

/// A tensor on the device in `dtype`, and the same values in f64 on the CPU.
fn pair(values: &Tensor, dtype: DType) -> (Tensor, Tensor) {
    let rounded = values.to_dtype(dtype).unwrap();
    (rounded.to_device(gpu()).unwrap(), rounded.to_dtype(DType::F64).unwrap())
}

/// Checks a result on the device against the one in f64.
fn check(what: &str, found: &Tensor, wanted: &Tensor, tolerance: f64) {
    let found = found.to_device(&Device::Cpu).unwrap().contiguous().unwrap();
    let off = distance(&found, wanted);
    assert!(off <= tolerance, "{what}: off by {off:.1e}, more than {tolerance:.0e}");
}

/// A geometry of a convolution with its input.
struct Case {
    name: String,
    g: Conv2dGeometry,
    input: [usize; 4],
    outputs: usize,
}

/// Odd sizes, tails of packs, groups, strides, windows of ResNets.
fn cases() -> Vec<Case> {
    let shapes = [
        (2, 8, 16, (15, 12), 3, 2, 1),
        (3, 3, 8, (17, 17), 7, 2, 1),
        (2, 16, 32, (7, 9), 1, 1, 1),
        (2, 16, 32, (8, 8), 1, 2, 1),
        (2, 16, 16, (9, 8), 3, 1, 4),
        (1, 5, 7, (4, 5), 3, 1, 1),
        (2, 64, 64, (6, 6), 3, 1, 1),
    ];
    let case = |(n, c, outputs, (h, w), kernel, stride, groups): (_, _, usize, (_, _), usize, _, _)| Case {
        name: format!("{n}×{c}×{h}×{w} to {outputs}, {kernel}×{kernel}, stride {stride}, {groups} groups"),
        g: Conv2dGeometry {
            kernel: (kernel, kernel),
            stride,
            padding: kernel / 2,
            groups,
            algorithms: ConvAlgorithms::default(),
        },
        input: [n, c, h, w],
        outputs,
    };
    shapes.map(case).into()
}

/// Runs `check` with cuDNN, if the build has it, and with matrix products.
fn with_both_engines(check: fn()) {
    for without in [false, true] {
        WITHOUT_CUDNN.set(without);
        check();
    }
}

#[test]
fn convolutions_agree_with_f64() {
    with_both_engines(check_convolutions);
}

fn check_convolutions() {
    for case in cases() {
        let Case { name, g, input, outputs } = &case;
        let weight = values(&[*outputs, input[1] / g.groups, g.kernel.0, g.kernel.1], 2);
        for (dtype, tolerance) in TYPES {
            let ((x, x64), (w, w64)) = (pair(&values(input, 1), dtype), pair(&weight, dtype));
            let y64 = conv2d(&x64, &w64, g).unwrap();
            let (dy, dy64) = pair(&values(y64.dims(), 3), dtype);
            let what = |part: &str| format!("{part} of {name} in {dtype:?}");
            check(&what("output"), &conv2d(&x, &w, g).unwrap(), &y64, tolerance);
            let size = (input[2], input[3]);
            let (dx, dx64) = (conv2d_backward_data(&dy, &w, g, size), conv2d_backward_data(&dy64, &w64, g, size));
            check(&what("input's gradient"), &dx.unwrap(), &dx64.unwrap(), tolerance);
            let (dw, dw64) = (conv2d_backward_weight(&x, &dy, g), conv2d_backward_weight(&x64, &dy64, g));
            let dw = dw.unwrap();
            assert_eq!(dw.dtype(), DType::F32);
            check(&what("weight's gradient"), &dw, &dw64.unwrap(), tolerance);
        }
    }
}

#[test]
fn a_weight_in_f32_is_rounded_for_images_in_bf16() {
    let g = cases().remove(0).g;
    let ((x, _), w) = (pair(&values(&[2, 8, 9, 9], 1), DType::BF16), narrow(&values(&[16, 8, 3, 3], 2)));
    let wide = w.to_device(gpu()).unwrap();
    let rounded = wide.to_dtype(DType::BF16).unwrap();
    let bits = |w: &Tensor| vector(&conv2d(&x, w, &g).unwrap().to_device(&Device::Cpu).unwrap());
    assert_eq!(bits(&wide), bits(&rounded));
}

#[test]
fn a_prepared_weight_gives_the_same_bits() {
    let near = |t: Tensor| vector(&t.to_device(&Device::Cpu).unwrap());
    for Case { name, g, input, outputs } in cases() {
        let weight = values(&[outputs, input[1] / g.groups, g.kernel.0, g.kernel.1], 2);
        for (dtype, _) in TYPES {
            let ((x, _), w) = (pair(&values(&input, 1), dtype), weight.to_dtype(DType::F32).unwrap());
            let w = w.to_device(gpu()).unwrap();
            let prepared = prepared_weight(&w, dtype).unwrap();
            assert_eq!((prepared.dims(), prepared.dtype()), (w.dims(), dtype), "{name}");
            // Its memory is what convolutions read.
            let rows = prepared.permute((0, 2, 3, 1)).unwrap();
            assert!(rows.is_contiguous(), "{name} in {dtype:?}");
            let size = (input[2], input[3]);
            let y = conv2d(&x, &prepared, &g).unwrap();
            let dx = |w: &Tensor| near(conv2d_backward_data(&y, w, &g, size).unwrap());
            assert_eq!(near(y.clone()), near(conv2d(&x, &w, &g).unwrap()), "{name} in {dtype:?}");
            assert_eq!(dx(&prepared), dx(&w), "{name} in {dtype:?}");
        }
    }
}

#[test]
fn fused_convolutions_agree_with_f64() {
    with_both_engines(check_fused_convolutions);
}

fn check_fused_convolutions() {
    for case in cases() {
        let Case { name, g, input, outputs } = &case;
        for (dtype, tolerance) in TYPES {
            // Two operations with rounding between them.
            let tolerance = 2.0 * tolerance;
            let weight = values(&[*outputs, input[1] / g.groups, g.kernel.0, g.kernel.1], 2);
            let ((x, x64), (w, w64)) = (pair(&values(input, 1), dtype), pair(&weight, dtype));
            let (scale, shift) = (values(&[input[1]], 3), values(&[input[1]], 4));
            let activation = |on_gpu: bool| {
                let of = |t: &Tensor| if on_gpu { pair(t, DType::F32).0 } else { pair(t, DType::F32).1 };
                ScaleShiftRelu { scale: of(&scale), shift: of(&shift) }
            };
            let xs = ConvInput { values: x, activation: Some(activation(true)) };
            let xs64 = ConvInput { values: x64, activation: Some(activation(false)) };
            let ((y, sums), (y64, sums64)) =
                (conv2d_with_sums(&xs, &w, g).unwrap(), conv2d_with_sums(&xs64, &w64, g).unwrap());
            let what = |part: &str| format!("{part} of {name} in {dtype:?}");
            check(&what("output"), &y, &y64, tolerance);
            check(&what("sums"), &sums, &sums64, tolerance);
            let (dy, dy64) = pair(&values(y64.dims(), 5), dtype);
            let (dw, dw64) = (conv2d_backward_weight(&xs, &dy, g), conv2d_backward_weight(&xs64, &dy64, g));
            check(&what("weight's gradient"), &dw.unwrap(), &dw64.unwrap(), tolerance);
            let (relu, relu64) = pair(&values(input, 6).relu().unwrap(), dtype);
            let (other, other64) = pair(&values(input, 7), dtype);
            let orders = |other: &Tensor| {
                let copy = || other.copy().unwrap();
                [Accumulate::Overwrite, Accumulate::AddThenMask(copy()), Accumulate::MaskThenAdd(copy())]
            };
            for (found, wanted) in orders(&other).into_iter().zip(orders(&other64)) {
                let name = what(&format!("{:?}", found.order()));
                let found = conv2d_backward_data_relu(&dy, &w, g, &relu, found).unwrap();
                check(&name, &found, &conv2d_backward_data_relu(&dy64, &w64, g, &relu64, wanted).unwrap(), tolerance);
            }
        }
    }
}

/// Shapes of a batch norm: one channel, odd and even numbers, and vectors.
const NORMS: [&[usize]; 6] =
    [&[3, 1, 5, 7], &[2, 72, 9, 11], &[5, 13, 3, 3], &[700, 24], &[2, 300, 2, 2], &[1, 8, 40, 40]];

#[test]
fn sums_do_not_cancel() {
    for shape in NORMS {
        // Mean 30, standard deviation 0.6: Σx² − (Σx)²/n loses three digits.
        let xs = ((values(shape, 1) * 1.04).unwrap() + 30.0).unwrap();
        for (dtype, _) in TYPES {
            let (x, x64) = pair(&xs, dtype);
            let variance = |sums: &Tensor| {
                let sums = sums.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
                let means = (sums / (x64.elem_count() / shape[1]) as f64).unwrap();
                (means.get(1).unwrap() - means.get(0).unwrap().sqr().unwrap()).unwrap()
            };
            let (found, wanted) = (batch_norm_sums(&x).unwrap(), batch_norm_sums(&x64).unwrap());
            check(&format!("sums over {shape:?} in {dtype:?}"), &found, &wanted, 1e-7);
            let name = format!("variance over {shape:?} in {dtype:?}");
            check(&name, &variance(&found), &variance(&wanted), 2e-6);
        }
    }
}

#[test]
fn batch_norm_agrees_with_f64() {
    for shape in NORMS {
        for (dtype, tolerance) in TYPES {
            let of = |seed: u64| pair(&values(shape, seed), dtype);
            let channels = |seed: u64| pair(&values(&[shape[1]], seed), DType::F32);
            let ((x, x64), (dy, dy64), (more, more64)) = (of(1), of(2), of(3));
            let ((scale, scale64), (shift, shift64), (term, term64)) = (channels(4), channels(5), channels(6));
            let what = |part: &str| format!("{part} over {shape:?} in {dtype:?}");
            for (residual, relu) in [(false, false), (true, false), (false, true), (true, true)] {
                let (residual, residual64) = if residual { (Some(&more), Some(&more64)) } else { (None, None) };
                let wanted = batch_norm_apply(&x64, &scale64, &shift64, residual64, relu).unwrap();
                let found = batch_norm_apply(&x, &scale, &shift, residual, relu).unwrap();
                check(&what("norm"), &found, &wanted, tolerance);
                let found = batch_norm_apply_in_place(x.copy().unwrap(), &scale, &shift, residual, relu).unwrap();
                check(&what("norm in place"), &found, &wanted, tolerance);
            }
            let activation = ScaleShiftRelu { scale: scale.clone(), shift: shift.clone() };
            let activation64 = ScaleShiftRelu { scale: scale64.clone(), shift: shift64.clone() };
            for (active, active64) in [(None, None), (Some(&activation), Some(&activation64))] {
                let found = batch_norm_backward_sums(&dy, active, &x, &shift, &term).unwrap();
                let wanted = batch_norm_backward_sums(&dy64, active64, &x64, &shift64, &term64).unwrap();
                check(&what("backward sums"), &found, &wanted, 1e-5);
                let wanted = batch_norm_backward(&dy64, active64, &x64, [&scale64, &term64, &shift64]).unwrap();
                let found = batch_norm_backward(&dy, active, &x, [&scale, &term, &shift]).unwrap();
                check(&what("gradient"), &found, &wanted, tolerance);
                let copy = x.copy().unwrap();
                let found = batch_norm_backward_in_place(&dy, active, copy, [&scale, &term, &shift]).unwrap();
                check(&what("gradient in place"), &found, &wanted, tolerance);
            }
            for (other, other64) in [(None, None), (Some(&more), Some(&more64))] {
                let found = relu_backward(dy.copy().unwrap(), other, &x).unwrap();
                check(&what("ReLU"), &found, &relu_backward(dy64.copy().unwrap(), other64, &x64).unwrap(), tolerance);
            }
        }
    }
}

#[test]
fn statistics_agree_with_f64() {
    for shape in NORMS {
        let ((x, x64), channels) = (pair(&values(shape, 1), DType::F32), shape[1]);
        let count = (x64.elem_count() / channels) as f64;
        let of = |seed: u64| pair(&values(&[channels], seed), DType::F32);
        let ((weight, weight64), (bias, bias64), (mean, mean64), (variance, variance64)) = (of(2), of(3), of(4), of(5));
        let vars = |a: &Tensor, b: &Tensor| (Var::from_tensor(a).unwrap(), Var::from_tensor(b).unwrap());
        let (running, running64) = (vars(&mean, &variance), vars(&mean64, &variance64));
        let statistics = |x: &Tensor, (mean, variance): &(Var, Var)| {
            let running = RunningStatistics { mean, variance, momentum: 0.1 };
            batch_norm_statistics(x, &batch_norm_sums(x).unwrap(), count, 1e-5, Some(running)).unwrap()
        };
        let (found, wanted) = (statistics(&x, &running), statistics(&x64, &running64));
        check("mean", &found.mean, &wanted.mean, 1e-6);
        check("inverse standard deviation", &found.inverse_std, &wanted.inverse_std, 1e-6);
        check("running mean", &running.0, &running64.0, 1e-6);
        check("running variance", &running.1, &running64.1, 1e-6);
        for (w, w64, b, b64) in [(None, None, None, None), (Some(&weight), Some(&weight64), Some(&bias), Some(&bias64))]
        {
            let affine = batch_norm_affine(&found, w, b, DType::F32).unwrap();
            let affine64 = batch_norm_affine(&wanted, w64, b64, DType::F64).unwrap();
            check("scale", &affine.scale, &affine64.scale, 1e-6);
            check("shift", &affine.shift, &affine64.shift, 1e-6);
            let (sums, sums64) = pair(&values(&[2, channels], 6), DType::F64);
            for (sums, sums64) in [(None, None), (Some((&sums, count)), Some((&sums64, count)))] {
                let terms = batch_norm_coefficients(&found, w, sums, DType::F32).unwrap();
                let terms64 = batch_norm_coefficients(&wanted, w64, sums64, DType::F64).unwrap();
                for (name, (found, wanted)) in ["scale", "slope", "offset"].iter().zip(terms.iter().zip(&terms64)) {
                    check(name, found, wanted, 1e-5);
                }
            }
        }
    }
}

#[test]
fn pools_equal_the_cpus() {
    for (shape, kernel, stride, padding) in
        [([3, 8, 7, 8], 3, 2, 1), ([3, 1, 6, 6], 2, 2, 0), ([4, 19, 5, 9], 3, 1, 1), ([2, 16, 9, 9], 3, 2, 1)]
    {
        for (dtype, tolerance) in TYPES {
            // Few distinct values cause ties.
            let (x, x64) = pair(&(values(&shape, 9) * 2.0).unwrap().round().unwrap(), dtype);
            let (y, winners) = max_pool2d(&x, kernel, stride, padding).unwrap();
            let (y64, winners64) = max_pool2d(&x64, kernel, stride, padding).unwrap();
            check("maxima", &y, &y64, 0.0);
            check("indices", &winners.indices, &winners64.indices, 0.0);
            let (dy, dy64) = pair(&values(y64.dims(), 10), dtype);
            let dx = max_pool2d_backward(&dy, &winners).unwrap();
            check("max-pool's gradient", &dx, &max_pool2d_backward(&dy64, &winners64).unwrap(), tolerance);
            let (mean, mean64) = (global_average_pool(&x).unwrap(), global_average_pool(&x64).unwrap());
            check("means", &mean, &mean64, tolerance);
            let size = (shape[2], shape[3]);
            let (dx, dx64) = (global_average_pool_backward(&mean, size), global_average_pool_backward(&mean64, size));
            check("mean's gradient", &dx.unwrap(), &dx64.unwrap(), 2.0 * tolerance);
        }
    }
    let x = Tensor::new(&[[[[1f32, f32::NAN, 3.0, 2.0]]]], gpu()).unwrap();
    let (y, winners) = max_pool2d(&x, 1, 1, 0).unwrap();
    assert!(flat(&y.to_device(&Device::Cpu).unwrap())[1].is_nan());
    assert_eq!(vector(&winners.indices.to_device(&Device::Cpu).unwrap()), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn cross_entropies_agree_with_f64() {
    let rules = [Positives::SameRow, Positives::OtherHalf, Positives::OtherHalfWithoutSiblings];
    for (positives, decoupled) in rules.into_iter().flat_map(|rule| [(rule, false), (rule, true)]) {
        for (first, rows, local, offset, columns) in [(0, 12, 12, 0, 12), (4, 5, 12, 3, 20), (0, 8, 8, 300, 700)] {
            let targets = RowTargets { first, local, offset, positives, decoupled };
            // At temperature 0.05.
            let (s, s64) = pair(&(values(&[rows, columns], 1) * 20.0).unwrap(), DType::F32);
            let (losses, gradient) = cross_entropy_rows(s, &targets).unwrap();
            let (losses64, gradient64) = cross_entropy_rows(s64, &targets).unwrap();
            check(&format!("losses of {targets:?}"), &losses, &losses64, 1e-6);
            check(&format!("gradient of {targets:?}"), &gradient, &gradient64, 1e-5);
        }
    }
    // The pair of a batch of one image excludes every other column.
    let targets = RowTargets { first: 0, local: 2, offset: 0, positives: Positives::OtherHalf, decoupled: true };
    let (s, s64) = pair(&values(&[2, 2], 1), DType::F32);
    let (losses, gradient) = cross_entropy_rows(s, &targets).unwrap();
    let (losses64, gradient64) = cross_entropy_rows(s64, &targets).unwrap();
    check("losses without columns", &losses, &losses64, 1e-6);
    check("gradient without columns", &gradient, &gradient64, 1e-6);
}

/// Numbers of values of 101 tensors, more than two launches take.
fn lengths() -> Vec<usize> {
    (0..101).map(|i| [1, 7, 64, 1000, 20_000][i % 5] + i).collect()
}

/// Steps of the same parameters on the device in f32 and on the CPU in f64, then their weights and buffers.
fn both_steps(rule: impl Fn(usize) -> StepRule, gate: &Gate, gate64: &Gate) -> [Vec<Tensor>; 2] {
    let run = |dtype: DType, device: &Device, gate: &Gate| {
        let on = |t: Tensor| t.to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap().to_device(device).unwrap();
        let mut changed = Vec::new();
        let mut steps = Vec::new();
        for (i, length) in lengths().into_iter().enumerate() {
            let (rule, seed) = (rule(i), i as u64);
            let dims = [&[length], rule.buffered()].concat();
            let weight = Var::from_tensor(&on(values(&[length], seed))).unwrap();
            // Mean squares are not negative.
            let buffer = Var::from_tensor(&on(values(&dims, seed + 1000).abs().unwrap())).unwrap();
            changed.extend([weight.as_detached_tensor(), buffer.as_detached_tensor()]);
            steps.push(ParameterStep { weight, buffer, gradient: on(values(&[length], seed + 2000)), rule });
        }
        parameter_steps(steps, gate).unwrap();
        changed
    };
    [run(DType::F32, gpu(), gate), run(DType::F64, &Device::Cpu, gate64)]
}

#[test]
fn optimizer_steps_agree_with_f64() {
    let decay = |i: usize| if i.is_multiple_of(3) { 0.0 } else { 0.01 };
    let momentum = move |i: usize, nesterov: bool| MomentumRule {
        momentum: 0.9,
        decay: decay(i),
        inner: 0.3,
        outer: 0.5,
        nesterov,
    };
    let lars = move |i: usize, by_product: bool| {
        let (trust_coefficient, adaptation) = (0.1, 0.8);
        StepRule::Lars(LarsRule { step: momentum(i, false), trust_coefficient, adaptation, by_product })
    };
    // As in LARS, biases take plain steps.
    let mixed =
        move |i: usize| if i.is_multiple_of(3) { StepRule::Momentum(momentum(i, false)) } else { lars(i, true) };
    let adamw = move |i: usize| {
        let (kept, rate) = (1.0 - 0.1 * decay(i), 0.01);
        StepRule::AdamW(AdamWRule { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, kept, rate, root: 0.3 })
    };
    type Rules = Box<dyn Fn(usize) -> StepRule>;
    let rules: [(&str, Rules); 5] = [
        ("momentum", Box::new(move |i| StepRule::Momentum(momentum(i, false)))),
        ("Nesterov momentum", Box::new(move |i| StepRule::Momentum(momentum(i, true)))),
        ("LARS and momentum", Box::new(mixed)),
        ("LARS", Box::new(move |i| lars(i, false))),
        ("AdamW", Box::new(adamw)),
    ];
    for (name, rule) in &rules {
        let [found, wanted] = both_steps(rule, &Gate::Open, &Gate::Open);
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            check(&format!("{name}, tensor {i}"), found, wanted, 2e-6);
        }
    }
    let flag = |open: u8| Gate::Flag(Tensor::new(open, gpu()).unwrap());
    for (gate, gate64) in [(flag(1), Gate::Open), (flag(0), Gate::Closed), (Gate::Closed, Gate::Closed)] {
        let [found, wanted] = both_steps(mixed, &gate, &gate64);
        for (found, wanted) in found.iter().zip(&wanted) {
            check(&format!("a step behind {gate:?}"), found, wanted, 2e-6);
        }
    }
}

#[test]
fn trust_is_one_without_a_norm() {
    let step = MomentumRule { momentum: 0.9, decay: 0.0, inner: 0.5, outer: 1.0, nesterov: false };
    let rule = StepRule::Lars(LarsRule { step, trust_coefficient: 0.1, adaptation: 1.0, by_product: true });
    for (weight, gradient) in [(0f32, 1f32), (1.0, 0.0)] {
        let of = |value: f32| Var::from_tensor(&Tensor::new(&[value; 3], gpu()).unwrap()).unwrap();
        let (weight_of, gradient_of) = (of(weight), of(gradient).as_detached_tensor());
        let step = ParameterStep { weight: weight_of.clone(), buffer: of(0.0), gradient: gradient_of, rule };
        parameter_steps(vec![step], &Gate::Open).unwrap();
        let found = flat(&weight_of.to_device(&Device::Cpu).unwrap());
        assert_eq!(found, [weight - 0.5 * gradient; 3]);
    }
}

#[test]
fn norms_and_averages_agree_with_f64() {
    let all: Vec<_> = lengths().iter().enumerate().map(|(i, &n)| pair(&values(&[n], i as u64), DType::F32)).collect();
    let (found, wanted): (Vec<&Tensor>, Vec<&Tensor>) = all.iter().map(|(a, b)| (a, b)).unzip();
    check("squared norms", &squared_norms(&found).unwrap(), &squared_norms(&wanted).unwrap(), 1e-6);
    for (kept, flag) in [(0.996, 1u8), (0.0, 1), (1.0, 1), (0.5, 0)] {
        let pairs = |side: &[&Tensor]| -> Vec<(Var, Tensor)> {
            side.iter().map(|&t| (Var::from_tensor(t).unwrap(), (t * 3.0).unwrap())).collect()
        };
        let (ours, theirs) = (pairs(&found), pairs(&wanted));
        move_all_towards(&ours, kept, &Gate::Flag(Tensor::new(flag, gpu()).unwrap())).unwrap();
        move_all_towards(&theirs, kept, if flag == 1 { &Gate::Open } else { &Gate::Closed }).unwrap();
        for ((found, _), (wanted, _)) in ours.iter().zip(&theirs) {
            check(&format!("average with {kept}"), found, wanted, 2e-7);
        }
    }
}

#[test]
fn scaled_tensors_agree_with_f64() {
    let all: Vec<_> = lengths().iter().enumerate().map(|(i, &n)| pair(&values(&[n], i as u64), DType::F32)).collect();
    // Two tensors may share memory, which stays as it is.
    let shared = all[2].0.narrow(0, 1, 5).unwrap();
    let ours = all.iter().map(|(ours, _)| ours.clone()).chain([shared.clone(), shared]).collect();
    let found = scaled(ours, &Tensor::new(0.37f64, gpu()).unwrap()).unwrap();
    let wanted = all.iter().map(|(_, wanted)| wanted.clone());
    let shared = all[2].1.narrow(0, 1, 5).unwrap();
    assert_eq!(found.len(), all.len() + 2);
    for (found, wanted) in found.iter().zip(wanted.chain([shared.clone(), shared])) {
        check("a product with a factor", found, &(wanted * f64::from(0.37f32)).unwrap(), 2e-7);
    }
    check("a factor's tensor", &all[2].0, &all[2].1, 0.0);
}

#[test]
fn pixels_are_normalized_to_the_bits_of_the_cpu() {
    let shape = PixelShape { count: 3, height: 5, width: 17 };
    let pixels: Vec<u8> = (0..3 * 5 * 17 * 3).map(|i| (i * 89 % 256) as u8).collect();
    let of = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
    let wanted = CpuPortable.normalized(&pixels, shape, of, &Device::Cpu, DType::F32).unwrap();
    for (dtype, tolerance) in [(DType::F32, 0.0), (DType::BF16, 4e-3)] {
        let found = Cuda.normalized(&pixels, shape, of, gpu(), dtype).unwrap();
        check("pixels", &found, &wanted, tolerance);
    }
}

#[test]
fn products_agree_with_f64() {
    for (m, k, n) in [(3, 5, 7), (70, 33, 130), (1, 1, 1)] {
        let ((a, a64), (b, b64)) = (pair(&values(&[m, k], 1), DType::F32), pair(&values(&[k, n], 2), DType::F32));
        check("product", &matmul(&a, &b).unwrap(), &matmul(&a64, &b64).unwrap(), 1e-6);
        let t = |t: &Tensor| t.t().unwrap().contiguous().unwrap();
        check("product with a transpose", &matmul_nt(&a, &t(&b)).unwrap(), &matmul(&a64, &b64).unwrap(), 1e-6);
        check("product of a transpose", &matmul_tn(&t(&a), &b).unwrap(), &matmul(&a64, &b64).unwrap(), 1e-6);
    }
}

#[test]
fn repeated_results_are_the_same_bits() {
    let run = || {
        let (x, _) = pair(&values(&[4, 24, 13, 11], 1), DType::F32);
        let g =
            Conv2dGeometry { kernel: (3, 3), stride: 1, padding: 1, groups: 1, algorithms: ConvAlgorithms::default() };
        let (w, _) = pair(&values(&[24, 24, 3, 3], 2), DType::F32);
        let (y, sums) = conv2d_with_sums(&x, &w, &g).unwrap();
        let dw = conv2d_backward_weight(&x, &y, &g).unwrap();
        [y, sums, dw].map(|t| vector(&t.to_device(&Device::Cpu).unwrap()))
    };
    assert_eq!(run(), run());
}

/// Height and width of the originals and of the views in the tests of views.
const SIZE: (usize, usize) = (9, 13);

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|k| (((k + 7) * 2_654_435_761) >> 9) as u8).collect()
}

/// Views of [`SIZE`], one for each list of operations, of as many originals; bytes `[views, height, width, 3]`.
fn views_with(operations: &[Vec<PixelOperation>]) -> (Vec<u8>, Vec<u8>) {
    let (height, width) = SIZE;
    let bytes = height * width * 3;
    let originals = noise(operations.len() * bytes);
    let places = |length: usize| (0..length).map(|k| (k, 1)).collect::<Vec<_>>();
    let (columns, rows) = (places(width), places(height));
    let same = |bounds| Resampling { bounds, weights: &[], slots: 0 };
    let program = |(number, operations): (usize, &Vec<PixelOperation>)| ViewProgram {
        start: number * bytes,
        stride: width * 3,
        columns: same(&columns),
        rows: same(&rows),
        operations: operations.clone(),
    };
    let views = operations.iter().enumerate().map(program).collect();
    let made = made(&originals, ViewPrograms { size: SIZE, views });
    (originals, made)
}

/// Bytes of views `[views, height, width, 3]`.
fn made(originals: &[u8], programs: ViewPrograms) -> Vec<u8> {
    assert!(programs.views.iter().all(|view| view.fits(programs.size, originals.len())));
    let unchanged = [[0.0; 3], [1.0 / 255.0; 3]];
    let views = Cuda.views(originals, &[programs], unchanged, gpu(), DType::F32).unwrap().remove(0);
    let values = flat(&views.to_device(&Device::Cpu).unwrap().permute((0, 2, 3, 1)).unwrap().contiguous().unwrap());
    values.into_iter().map(|value| value.round() as u8).collect()
}

/// Changes every pixel of an image.
fn each(image: &[u8], change: impl Fn([f64; 3]) -> [f64; 3]) -> Vec<u8> {
    let pixel =
        |pixel: &[u8]| change([0, 1, 2].map(|c| f64::from(pixel[c]))).map(|value| value.clamp(0.0, 255.0) as u8);
    image.chunks_exact(3).flat_map(pixel).collect()
}

fn luminance([r, g, b]: [f64; 3]) -> f64 {
    ((19595.0 * r + 38470.0 * g + 7471.0 * b + 32768.0) / 65536.0).floor()
}

#[test]
fn operations_on_views_agree_with_their_definitions() {
    use PixelOperation as Op;
    let (height, width) = SIZE;
    let mirrored = |image: &[u8], place: &dyn Fn(usize, usize) -> usize| -> Vec<u8> {
        let pixel = |k: usize| &image[place(k / width, k % width) * 3..][..3];
        (0..height * width).flat_map(pixel).copied().collect()
    };
    let blend = |a: f64, b: f64, factor: f32| a + f64::from(factor) * (b - a);
    type Wanted<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
    let fill = Op::Fill { corner: (2, 3), size: (4, 10), color: [1, 2, 3] };
    let cases: Vec<(Op, Wanted)> = vec![
        (Op::HorizontalFlip, Box::new(|i| mirrored(i, &|y, x| y * width + width - 1 - x))),
        (Op::VerticalFlip, Box::new(|i| mirrored(i, &|y, x| (height - 1 - y) * width + x))),
        // Factors with few bits, for which f32 is exact.
        (Op::Brightness(1.375), Box::new(|i| each(i, |p| p.map(|v| blend(0.0, v, 1.375))))),
        (
            Op::Contrast(0.5),
            Box::new(|i| {
                let sum: f64 = i.chunks_exact(3).map(|p| luminance([0, 1, 2].map(|c| f64::from(p[c])))).sum();
                let mean = (sum / (height * width) as f64 + 0.5).floor();
                each(i, |p| p.map(|v| blend(mean, v, 0.5)))
            }),
        ),
        (Op::Saturation(1.75), Box::new(|i| each(i, |p| p.map(|v| blend(luminance(p), v, 1.75))))),
        (Op::Grayscale, Box::new(|i| each(i, |p| [luminance(p); 3]))),
        (Op::Solarize(100), Box::new(|i| each(i, |p| p.map(|v| if v < 100.0 { v } else { 255.0 - v })))),
        (Op::Mask(0b1110_0000), Box::new(|i| i.iter().map(|v| v & 0b1110_0000).collect())),
        (
            fill,
            Box::new(|i| {
                let inside = |k: usize| (2..6).contains(&(k / width)) && (3..13).contains(&(k % width));
                let pixel = |k: usize| if inside(k) { vec![1, 2, 3] } else { i[k * 3..][..3].to_vec() };
                (0..height * width).flat_map(pixel).collect()
            }),
        ),
        (
            Op::Blur(vec![0.25, 0.5, 0.25]),
            Box::new(|i| {
                let reflect = |k: isize, n: usize| k.unsigned_abs().min(2 * (n - 1) - k.unsigned_abs());
                let tap = |y: isize, x: isize, c: usize| {
                    f64::from(i[(reflect(y, height) * width + reflect(x, width)) * 3 + c])
                };
                let value = |k: usize| {
                    let (y, x) = ((k / 3 / width) as isize, (k / 3 % width) as isize);
                    let weights = [(-1, 0.25), (0, 0.5), (1, 0.25)];
                    let along = |y: isize| weights.map(|(d, w)| w * tap(y, x + d, k % 3)).iter().sum::<f64>();
                    weights.map(|(d, w)| w * along(y + d)).iter().sum::<f64>().round_ties_even() as u8
                };
                (0..height * width * 3).map(value).collect()
            }),
        ),
    ];
    let operations: Vec<Vec<Op>> = cases.iter().map(|(operation, _)| vec![operation.clone()]).collect();
    let (originals, views) = views_with(&operations);
    let bytes = height * width * 3;
    for ((operation, wanted), (original, view)) in
        cases.iter().zip(originals.chunks_exact(bytes).zip(views.chunks_exact(bytes)))
    {
        assert!(view == wanted(original), "{operation:?}");
    }
    // A third of the circle of 255 steps takes red to green, green to blue, and leaves gray.
    let fill = |color| vec![Op::Fill { corner: (0, 0), size: SIZE, color }, Op::Hue(85)];
    let (_, views) = views_with(&[fill([255, 0, 0]), fill([0, 200, 0]), fill([90; 3])]);
    for (view, wanted) in views.chunks_exact(bytes).zip([[0, 255, 0], [0, 0, 200], [90; 3]]) {
        assert!(view.chunks_exact(3).all(|pixel| pixel == wanted), "{wanted:?}: {:?}", &view[..3]);
    }
}

/// A part of an original, its rows halved by means of two pixels, its columns doubled by repetition.
#[test]
fn views_are_resampled_parts() {
    let ((height, width), size) = (SIZE, (8, 4));
    let originals = noise(height * width * 3);
    let half = 1 << 21;
    let columns: Vec<(usize, usize)> = (0..size.1).map(|x| (2 * x, 2)).collect();
    let rows: Vec<(usize, usize)> = (0..size.0).map(|y| (y / 2, 1)).collect();
    let view = ViewProgram {
        start: (3 * width + 2) * 3,
        stride: width * 3,
        columns: Resampling { bounds: &columns, weights: &vec![half; 2 * size.1], slots: 2 },
        rows: Resampling { bounds: &rows, weights: &vec![1 << 22; size.0], slots: 1 },
        operations: Vec::new(),
    };
    let at = |y: usize, x: usize, c: usize| u16::from(originals[((3 + y) * width + 2 + x) * 3 + c]);
    let value = |k: usize| {
        let (y, x, c) = (k / 3 / size.1, k / 3 % size.1, k % 3);
        (at(y / 2, 2 * x, c) + at(y / 2, 2 * x + 1, c)).div_ceil(2) as u8
    };
    let wanted: Vec<u8> = (0..size.0 * size.1 * 3).map(value).collect();
    let outside = ViewProgram { start: (7 * width) * 3, ..view.clone() };
    assert!(!outside.fits(size, originals.len()));
    assert_eq!(made(&originals, ViewPrograms { size, views: vec![view] }), wanted);
}
