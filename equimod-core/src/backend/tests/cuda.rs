//! The CUDA backend against the CPU's f64 path, in f32 and bf16.
//!
//! Inputs of the f64 path are rounded to the element type of the device, so that only the device's own rounding is
//! measured.

use std::sync::OnceLock;

use candle_core::Var;

use super::super::contract::{ImageOps, PixelShape};
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
