//! Forward and backward passes of convolutions with every algorithm and instruction set.

use super::super::contract::ConvShape;
use super::super::cpu_fast::kernels::{self as fast, Algorithm, ConvInputRows, ScaleShiftReluRows};
use super::super::cpu_fast::layout::rows;
use super::*;

struct Case {
    shape: [usize; 4],
    out_channels: usize,
    geometry: Conv2dGeometry,
}

/// Cases: batch ≥ 3, strides 1 and 2, paddings 0, 1 and 3, odd and rectangular sizes, groups, channels that do not fill
/// a vector.
fn cases() -> Vec<Case> {
    let case = |shape, out_channels, kernel, stride, padding, groups| Case {
        shape,
        out_channels,
        geometry: Conv2dGeometry {
            kernel: (kernel, kernel),
            stride,
            padding,
            groups,
            algorithms: ConvAlgorithms::default(),
        },
    };
    vec![
        case([3, 3, 8, 8], 5, 3, 1, 1, 1),
        case([4, 6, 7, 9], 4, 3, 2, 1, 1),
        case([3, 2, 7, 8], 3, 3, 2, 0, 1),
        case([5, 4, 5, 6], 8, 1, 1, 0, 1),
        case([3, 5, 6, 7], 7, 1, 2, 0, 1),
        case([3, 3, 11, 13], 6, 7, 2, 3, 1),
        case([3, 4, 6, 5], 6, 3, 1, 1, 2),
        case([4, 6, 4, 4], 6, 3, 1, 1, 3),
        case([3, 3, 5, 5], 2, 3, 1, 0, 1),
        case([33, 8, 4, 4], 8, 3, 1, 1, 1),
        case([3, 16, 16, 32], 16, 3, 1, 1, 1),
        case([9, 12, 5, 24], 20, 3, 1, 1, 1),
        case([3, 64, 8, 8], 32, 3, 1, 1, 1),
        case([3, 24, 9, 7], 40, 3, 1, 1, 1),
        case([3, 17, 10, 6], 9, 3, 1, 0, 1),
        case([4, 8, 5, 5], 70, 3, 1, 2, 1),
        case([3, 130, 4, 4], 130, 3, 1, 1, 1),
        case([52, 20, 4, 5], 12, 3, 1, 1, 1),
        case([3, 20, 8, 8], 70, 3, 2, 1, 1),
        case([5, 24, 16, 9], 40, 3, 2, 1, 1),
        case([33, 8, 7, 8], 17, 3, 2, 1, 1),
        case([3, 130, 8, 7], 260, 3, 2, 1, 1),
        case([14, 136, 4, 16], 72, 3, 2, 1, 1),
        case([3, 5, 9, 9], 3, 5, 3, 2, 1),
        case([3, 33, 6, 6], 67, 1, 2, 0, 1),
        case([3, 6, 5, 7], 4, 2, 2, 0, 1),
    ]
}

impl Case {
    fn tensors(&self) -> (Tensor, Tensor, Tensor) {
        let g = &self.geometry;
        let x = values(&self.shape, 1);
        let w = values(&[self.out_channels, self.shape[1] / g.groups, g.kernel.0, g.kernel.1], 2);
        let (h, width) = g.out_size((self.shape[2], self.shape[3])).unwrap();
        (x, w, values(&[self.shape[0], self.out_channels, h, width], 3))
    }

    fn size(&self) -> (usize, usize) {
        (self.shape[2], self.shape[3])
    }

    fn conv_shape(&self) -> ConvShape {
        ConvShape::new(self.shape[0], self.shape[1], self.out_channels, self.size(), &self.geometry).unwrap()
    }

    fn all(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> [Tensor; 3] {
        let g = &self.geometry;
        [
            conv2d(x, w, g).unwrap(),
            conv2d_backward_data(dy, w, g, self.size()).unwrap(),
            conv2d_backward_weight(x, dy, g).unwrap(),
        ]
    }
}

/// One output of a convolution by its definition.
fn defined(case: &Case, x: &[f64], w: &[f64], place: [usize; 4]) -> f64 {
    let [_, channels, height, width] = case.shape;
    let Conv2dGeometry { kernel: (kh, kw), stride, padding, groups, .. } = case.geometry;
    let [n, o, oy, ox] = place;
    let (inner, group) = (channels / groups, o / (case.out_channels / groups));
    let mut sum = 0.0;
    for c in 0..inner {
        for ky in 0..kh {
            for kx in 0..kw {
                let (y, x_) = ((oy * stride + ky).wrapping_sub(padding), (ox * stride + kx).wrapping_sub(padding));
                if y < height && x_ < width {
                    let input = ((n * channels + group * inner + c) * height + y) * width + x_;
                    sum += x[input] * w[((o * inner + c) * kh + ky) * kw + kx];
                }
            }
        }
    }
    sum
}

#[test]
fn convolutions_are_their_definition_and_their_backwards_are_adjoint() {
    for case in cases() {
        let (x, w, dy) = case.tensors();
        let [y, dx, dw] = case.all(&x, &w, &dy);
        let (xs, ws, ys) = (vector(&x), vector(&w), vector(&y));
        let (n, o, h, width) = y.dims4().unwrap();
        for (i, got) in ys.iter().enumerate().step_by(7) {
            let place = [i / (o * h * width) % n, i / (h * width) % o, i / width % h, i % width];
            let want = defined(&case, &xs, &ws, place);
            // Sums of at most 600 products in f64.
            assert!((got - want).abs() < 1e-12, "{:?} {place:?}: {got} {want}", case.geometry);
        }
        // ⟨conv(x, w), dy⟩ = ⟨x, dx⟩ = ⟨w, dw⟩: a convolution is linear in both.
        let whole = dot(&y, &dy);
        for (part, what) in [(dot(&x, &dx), "data"), (dot(&w, &dw), "weight")] {
            assert!((part - whole).abs() < 1e-10 * whole.abs().max(1.0), "{:?} {what}: {part} {whole}", case.geometry);
        }
    }
}

#[test]
fn f32_kernels_are_near_f64_ones() {
    for case in cases() {
        let (x, w, dy) = case.tensors();
        let (x, w, dy) = (narrow(&x), narrow(&w), narrow(&dy));
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let exact = case.all(&wide(&x), &wide(&w), &wide(&dy));
        for (got, want) in case.all(&x, &w, &dy).iter().zip(&exact) {
            let off = distance(got, want);
            assert!(off < bound(Algorithm::of(&case.conv_shape())), "{:?} {:?}: {off:e}", case.shape, case.geometry);
        }
    }
}

/// Results of the f32 kernels for every case.
pub(super) fn results() -> Vec<Vec<f64>> {
    let mut results = Vec::new();
    for case in cases() {
        let (x, w, dy) = case.tensors();
        let (x, w, dy) = (narrow(&x), narrow(&w), narrow(&dy));
        results.extend(case.all(&x, &w, &dy).iter().map(vector));
        let [scale, shift] = [10, 11].map(|seed| narrow(&values(&case.shape[1..2], seed)));
        let input = ConvInput { values: x.clone(), activation: Some(ScaleShiftRelu { scale, shift }) };
        results.push(vector(&conv2d(&input, &w, &case.geometry).unwrap()));
        results.push(vector(&conv2d_backward_weight(input, &dy, &case.geometry).unwrap()));
        let accumulate = Accumulate::AddThenMask(narrow(&values(&case.shape, 9)));
        results.push(vector(&conv2d_backward_data_relu(&dy, &w, &case.geometry, &x, accumulate).unwrap()));
    }
    results
}

/// Forward pass with sums, input gradient and weight gradient of a shape, as one list of results.
fn all_of(arch: Arch, algorithm: Algorithm, s: &ConvShape, [x, w, dy]: [&Tensor; 3]) -> [Vec<f64>; 4] {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
    let (x, dy) = (rows(x).unwrap(), rows(dy).unwrap());
    let (x, w, dy) = (flat(&x), flat(w), flat(&dy));
    let (y, sums) = fast::conv2d(arch, algorithm, plain(&x), &w, s, true);
    let dx = fast::conv2d_backward_data(arch, algorithm, [&dy, &w], s, None);
    let dw = fast::conv2d_backward_weight(arch, algorithm, plain(&x), &dy, s);
    [wide(y), sums.unwrap(), wide(dx), wide(dw)]
}

fn plain(values: &[f32]) -> ConvInputRows<'_> {
    ConvInputRows { values, activation: None }
}

/// The same in f64, by the portable kernels, in rows of channels.
fn exact(case: &Case, [x, w, dy]: [&Tensor; 3]) -> [Vec<f64>; 4] {
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let [y, dx, dw] = case.all(&wide(x), &wide(w), &wide(dy));
    let sums = vector(&batch_norm_sums(&y).unwrap());
    [vector(&rows(&y).unwrap()), sums, vector(&rows(&dx).unwrap()), vector(&dw)]
}

/// Bounds on an algorithm's relative L2 errors in f32: a random walk of roundings of 6e-8 for plain products, ten times
/// as much for Winograd's transforms.
fn bound(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Direct => 2e-6,
        Algorithm::Winograd => 6e-6,
    }
}

#[test]
fn every_algorithm_on_every_instruction_set_is_near_the_portable_path() {
    for case in cases().into_iter().filter(|case| case.geometry.groups == 1) {
        let (x, w, dy) = case.tensors();
        let (x, w, dy) = (narrow(&x), narrow(&w), narrow(&dy));
        let s = case.conv_shape();
        let exact = exact(&case, [&x, &w, &dy]);
        let fits = s.kernel == (3, 3) && (if s.stride == 1 { s.padding <= 2 } else { s.padding == 1 });
        let algorithms = [Algorithm::Direct, Algorithm::Winograd];
        for algorithm in algorithms.into_iter().take(if fits { 2 } else { 1 }) {
            for arch in instruction_sets() {
                let found = all_of(arch, algorithm, &s, [&x, &w, &dy]);
                for (what, (found, exact)) in ["y", "sums", "dx", "dw"].iter().zip(found.iter().zip(&exact)) {
                    let off = off(found, exact);
                    let bound = bound(algorithm);
                    assert!(off < bound, "{algorithm:?} {arch:?} {:?} {:?} {what}: {off:e}", case.shape, case.geometry);
                }
            }
        }
    }
}

/// Scale and shift of each channel.
type Activation = (Vec<f32>, Vec<f32>);

/// Checks that an input which is activated while it is read gives the same bits as one that was activated before, with
/// those `activations` that come from a scale and a shift of each channel.
fn check_activated_input(activations: fn(Activation) -> Vec<Activation>) {
    for case in cases().into_iter().filter(|case| case.geometry.groups == 1) {
        let ((x, w, dy), s) = (case.tensors(), case.conv_shape());
        let channels = case.shape[1];
        // Positive shifts would show at the edges.
        let (scale, shift) = (flat(&narrow(&values(&[channels], 10))), flat(&narrow(&values(&[channels], 11))));
        let activations = activations((scale, shift));
        let [x, dy] = [x, dy].map(|t| flat(&rows(&narrow(&t)).unwrap()));
        let w = flat(&narrow(&w));
        // All NaNs are equal here.
        let bits = |values: Vec<f32>| values.into_iter().map(|v| (!v.is_nan()).then(|| v.to_bits()));
        let instructions = instruction_sets().into_iter();
        for (arch, (scale, shift)) in instructions.flat_map(|arch| activations.iter().map(move |r| (arch, r))) {
            let made = fast::batch_norm::apply(arch, &x, scale, shift, None, true);
            let activation = Some(ScaleShiftReluRows { scale, shift });
            let input = ConvInputRows { values: &x, activation };
            let algorithm = Algorithm::of(&s);
            let what = format!("{arch:?} {:?} {:?} {scale:?} {shift:?}", case.shape, case.geometry);
            let forward = |x: ConvInputRows| bits(fast::conv2d(arch, algorithm, x, &w, &s, true).0);
            let weight = |x: ConvInputRows| bits(fast::conv2d_backward_weight(arch, algorithm, x, &dy, &s));
            assert!(forward(input).eq(forward(plain(&made))), "{what}");
            assert!(weight(input).eq(weight(plain(&made))), "{what}");
        }
    }
}

#[test]
fn an_input_activated_while_it_is_read_gives_the_same_bits_as_one_that_was_activated_before() {
    check_activated_input(|ordinary| vec![ordinary]);
}

#[test]
fn special_values_of_an_activation_give_the_same_bits() {
    check_activated_input(|(scale, shift)| {
        let with = |values: &[f32], value| {
            let mut values = values.to_vec();
            values[1] = value;
            values
        };
        let special = [0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE / 2.0];
        let pairs = |value| [(with(&scale, value), shift.clone()), (scale.clone(), with(&shift, value))];
        special.into_iter().flat_map(pairs).collect()
    });
}

#[test]
fn every_backend_takes_an_input_with_its_activation() {
    for case in cases() {
        let (x, w, dy) = case.tensors();
        let (scale, shift) = (values(&case.shape[1..2], 10), values(&case.shape[1..2], 11));
        for [x, w, dy, scale, shift] in
            [[&x, &w, &dy, &scale, &shift].map(Clone::clone), [&x, &w, &dy, &scale, &shift].map(narrow)]
        {
            let activation = ScaleShiftRelu { scale, shift };
            let made = scale_shift_relu(&x, &activation).unwrap();
            let input = ConvInput { values: x, activation: Some(activation) };
            let g = &case.geometry;
            assert_eq!(vector(&conv2d(&input, &w, g).unwrap()), vector(&conv2d(&made, &w, g).unwrap()));
            let weight = |x: ConvInput| vector(&conv2d_backward_weight(x, &dy, g).unwrap());
            assert_eq!(weight(input), weight(made.into()));
        }
    }
}

/// Gradient of a convolution's input through the ReLU that produced it, by its definition: alone and with another
/// gradient.
fn accumulated(dx: &Tensor, more: &Tensor, y: &Tensor) -> [(Accumulate, Tensor); 3] {
    let passed = y.gt(0.0).unwrap().to_dtype(y.dtype()).unwrap();
    let (through, more_through) = ((dx * &passed).unwrap(), (more * &passed).unwrap());
    let sum = (&through + &more_through).unwrap();
    let copy = |t: &Tensor| t.copy().unwrap();
    [
        (Accumulate::Overwrite, through),
        (Accumulate::AddThenMask(copy(more)), copy(&sum)),
        (Accumulate::MaskThenAdd(copy(&more_through)), sum),
    ]
}

#[test]
fn gradients_pass_the_relu_that_gave_the_input() {
    for case in cases() {
        let ((y, w, dy), more) = (case.tensors(), values(&case.shape, 9));
        let on = |[y, w, dy, more]: [&Tensor; 4], bound: f64| {
            let dx = conv2d_backward_data(dy, w, &case.geometry, case.size()).unwrap();
            for (accumulate, want) in accumulated(&dx, more, y) {
                let what = format!("{:?} {:?} {accumulate:?}", case.shape, case.geometry);
                let found = conv2d_backward_data_relu(dy, w, &case.geometry, y, accumulate).unwrap();
                assert!(distance(&found, &want) < bound, "{what}");
            }
        };
        on([&y, &w, &dy, &more], 1e-15);
        on([&narrow(&y), &narrow(&w), &narrow(&dy), &narrow(&more)], 1e-6);
    }
}

#[test]
fn gradients_pass_the_relu_with_every_instruction_set() {
    for case in cases().into_iter().filter(|case| case.geometry.groups == 1) {
        let ((y, w, dy), more, s) = (case.tensors(), values(&case.shape, 9), case.conv_shape());
        let [y, dy, more] = [y, dy, more].map(|t| flat(&rows(&narrow(&t)).unwrap()));
        let w = flat(&narrow(&w));
        for (arch, algorithm) in instruction_sets().into_iter().map(|arch| (arch, Algorithm::of(&s))) {
            let dx = fast::conv2d_backward_data(arch, algorithm, [&dy, &w], &s, None);
            let through = fast::conv2d_backward_data(arch, algorithm, [&dy, &w], &s, Some(&y));
            assert!(
                through.iter().zip(&dx).zip(&y).all(|((through, dx), y)| *through == if *y > 0.0 { *dx } else { 0.0 })
            );
            for accumulate in [Accumulate::AddThenMask(()), Accumulate::MaskThenAdd(())] {
                let passes = |place: usize| y[place] > 0.0;
                let through = |place: usize| accumulate == Accumulate::AddThenMask(()) || passes(place);
                let more: Vec<f32> = (0..y.len()).map(|k| if through(k) { more[k] } else { 0.0 }).collect();
                let sum = |k: usize| if passes(k) { f64::from(dx[k]) + f64::from(more[k]) } else { 0.0 };
                let mut found = more.clone();
                fast::conv2d_backward_data_onto(arch, algorithm, [&dy, &w], &s, Some(&y), (accumulate, &mut found));
                let found: Vec<f64> = found.into_iter().map(f64::from).collect();
                let off = off(&found, &(0..y.len()).map(sum).collect::<Vec<_>>());
                assert!(off < 1e-6, "{arch:?} {algorithm:?} {accumulate:?} {:?}: {off:e}", case.shape);
            }
        }
    }
}

/// Winograd's error for the stages of a ResNet-18, with the bounds in docs/architecture.md.
#[test]
fn winograds_error_stays_in_its_bounds_for_the_shapes_of_a_resnet() {
    let unit = [(32, 16), (32, 64), (16, 128), (8, 256), (4, 512), (14, 64), (7, 128)].map(|shape| (shape, 1));
    let strided = [(32, 16), (32, 64), (16, 128), (8, 256), (14, 64), (7, 128), (8, 384)].map(|shape| (shape, 2));
    for ((side, channels), stride) in unit.into_iter().chain(strided) {
        let geometry =
            Conv2dGeometry { kernel: (3, 3), stride, padding: 1, groups: 1, algorithms: ConvAlgorithms::default() };
        let case = Case { shape: [3, channels, side, side], out_channels: stride * channels, geometry };
        let (x, w, dy) = case.tensors();
        let (x, w, dy) = (narrow(&x), narrow(&w), narrow(&dy));
        let s = case.conv_shape();
        assert_eq!(Algorithm::of(&s), Algorithm::Winograd, "{side} {channels}");
        let exact = exact(&case, [&x, &w, &dy]);
        let found = all_of(Arch::new(), Algorithm::Winograd, &s, [&x, &w, &dy]);
        let direct = all_of(Arch::new(), Algorithm::Direct, &s, [&x, &w, &dy]);
        for k in [0, 2, 3] {
            let (winograd, direct) = (off(&found[k], &exact[k]), off(&direct[k], &exact[k]));
            assert!(winograd < 4e-6, "{side} {channels} {k}: {winograd:e}");
            println!(
                "{side}×{side}, {channels} channels, stride {stride}, {k}: winograd {winograd:.1e}, direct {direct:.1e}"
            );
            assert!(direct < 2e-6, "{side} {channels} {k}: {direct:e}");
        }
    }
}

#[test]
fn composed_convolutions_equal_the_kernels() {
    for case in cases() {
        let (x, w, dy) = case.tensors();
        let (g, s) = (&case.geometry, &case.conv_shape());
        let composed = [
            Composed.conv2d(&x, &w, s).unwrap(),
            Composed.conv2d_backward_data(&dy, &w, s).unwrap(),
            Composed.conv2d_backward_weight(&x, &dy, s).unwrap(),
        ];
        for (a, b) in composed.iter().zip(&case.all(&x, &w, &dy)) {
            assert!(distance(a, b) < 1e-13, "{:?} {g:?}: {:e}", case.shape, distance(a, b));
        }
    }
}
