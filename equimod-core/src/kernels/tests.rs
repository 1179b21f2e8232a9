//! Every kernel against its definition: adjoints and finite differences in f64, f32 and the composed form against f64,
//! any number of threads against one.

use candle_core::{DType, Device, Result, Tensor};
use pulp::Arch;

use super::fast::{self, Algorithm};
use super::shapes::ConvShape;
use super::values::rows;
use super::*;

/// Values without structure, in about ±1.
fn values(shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| {
        let mut z = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(0xD129_0D3C_5B5B_7F1D);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    Tensor::from_vec((0..count).map(value).collect::<Vec<f64>>(), shape, &Device::Cpu).unwrap()
}

fn vector(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    vector(a).iter().zip(vector(b)).map(|(x, y)| x * y).sum()
}

/// ‖a − b‖ / ‖b‖.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let square: f64 = vector(a).iter().zip(vector(b)).map(|(x, y)| (x - y).powi(2)).sum();
    (square / dot(b, b).max(1e-300)).sqrt()
}

fn narrow(t: &Tensor) -> Tensor {
    t.to_dtype(DType::F32).unwrap()
}

struct Case {
    shape: [usize; 4],
    out_channels: usize,
    geometry: Conv2dGeometry,
}

/// Batch ≥ 3, strides 1 and 2, paddings 0, 1 and 3, odd and rectangular sizes, groups, channels that fill no vector.
fn cases() -> Vec<Case> {
    let case = |shape, out_channels, kernel, stride, padding, groups| Case {
        shape,
        out_channels,
        geometry: Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups, winograd: true },
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
            // Sums of at most 600 products in 64 bits.
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

/// Every instruction set of this machine, and none.
pub(super) fn instruction_sets() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    all
}

/// Forward with its sums, backward-data and backward-weight of a shape, as one list of results.
fn all_of(arch: Arch, algorithm: Algorithm, s: &ConvShape, [x, w, dy]: [&Tensor; 3]) -> [Vec<f64>; 4] {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
    let (x, dy) = (rows(x).unwrap(), rows(dy).unwrap());
    let (x, w, dy) = (flat(&x), flat(w), flat(&dy));
    let (y, sums) = fast::conv2d(arch, algorithm, plain(&x), &w, s, true);
    let dx = fast::conv2d_backward_data(arch, algorithm, &dy, &w, s, None);
    let dw = fast::conv2d_backward_weight(arch, algorithm, plain(&x), &dy, s);
    [wide(y), sums.unwrap(), wide(dx), wide(dw)]
}

fn plain(values: &[f32]) -> fast::Input<'_> {
    fast::Input { values, rectifier: None }
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// ‖a − b‖ / ‖b‖ of values.
fn off(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    (square / b.iter().map(|y| y * y).sum::<f64>().max(1e-300)).sqrt()
}

/// The same in f64, by the portable kernels, over rows.
fn exact(case: &Case, [x, w, dy]: [&Tensor; 3]) -> [Vec<f64>; 4] {
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let [y, dx, dw] = case.all(&wide(x), &wide(w), &wide(dy));
    let sums = vector(&batch_norm_sums(&y).unwrap());
    [vector(&rows(&y).unwrap()), sums, vector(&rows(&dx).unwrap()), vector(&dw)]
}

/// Relative errors (root of the sum of squares) that an algorithm may have in f32: of the products alone, a random walk of
/// roundings of 6e-8; of Winograd's transforms ten times as much.
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

#[test]
fn an_input_rectified_on_the_way_gives_the_same_bits_as_one_that_was_rectified_before() {
    for case in cases().into_iter().filter(|case| case.geometry.groups == 1) {
        let ((x, w, dy), s) = (case.tensors(), case.conv_shape());
        let channels = case.shape[1];
        // Positive shifts would show at the edges.
        let (scale, shift) = (flat(&narrow(&values(&[channels], 10))), flat(&narrow(&values(&[channels], 11))));
        let with = |values: &[f32], value| {
            let mut values = values.to_vec();
            values[1] = value;
            values
        };
        let mut rectifiers = vec![(scale.clone(), shift.clone())];
        for value in [0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE / 2.0] {
            rectifiers.push((with(&scale, value), shift.clone()));
            rectifiers.push((scale.clone(), with(&shift, value)));
        }
        let [x, dy] = [x, dy].map(|t| flat(&rows(&narrow(&t)).unwrap()));
        let w = flat(&narrow(&w));
        // Any not-a-number is as good as another.
        let bits = |values: Vec<f32>| values.into_iter().map(|v| (!v.is_nan()).then(|| v.to_bits()));
        let instructions = instruction_sets().into_iter();
        for (arch, (scale, shift)) in instructions.flat_map(|arch| rectifiers.iter().map(move |r| (arch, r))) {
            let made = fast::norm::apply(arch, &x, scale, shift, None, true);
            let rectifier = Some(fast::Rectifier { scale, shift });
            let input = fast::Input { values: &x, rectifier };
            let algorithm = Algorithm::of(&s);
            let what = format!("{arch:?} {:?} {:?} {scale:?} {shift:?}", case.shape, case.geometry);
            let forward = |x: fast::Input| bits(fast::conv2d(arch, algorithm, x, &w, &s, true).0);
            let weight = |x: fast::Input| bits(fast::conv2d_backward_weight(arch, algorithm, x, &dy, &s));
            assert!(forward(input).eq(forward(plain(&made))), "{what}");
            assert!(weight(input).eq(weight(plain(&made))), "{what}");
        }
    }
}

#[test]
fn any_kernels_take_an_input_with_its_rectifier() {
    for case in cases() {
        let (x, w, dy) = case.tensors();
        let (scale, shift) = (values(&case.shape[1..2], 10), values(&case.shape[1..2], 11));
        for [x, w, dy, scale, shift] in
            [[&x, &w, &dy, &scale, &shift].map(Clone::clone), [&x, &w, &dy, &scale, &shift].map(narrow)]
        {
            let rectifier = Rectifier { scale, shift };
            let made = rectifier.output(&x).unwrap();
            let input = Input { values: x, rectifier: Some(rectifier) };
            let g = &case.geometry;
            assert_eq!(vector(&conv2d(&input, &w, g).unwrap()), vector(&conv2d(&made, &w, g).unwrap()));
            let weight = |x: Input| vector(&conv2d_backward_weight(x, &dy, g).unwrap());
            assert_eq!(weight(input), weight(made.into()));
        }
    }
}

/// The three ways in which the gradient of a convolution's input goes on, from where it is alone.
fn ways_on(dx: &Tensor, more: &Tensor, y: &Tensor) -> [(Beside, Tensor); 3] {
    let passed = y.gt(0.0).unwrap().to_dtype(y.dtype()).unwrap();
    let (through, more_through) = ((dx * &passed).unwrap(), (more * &passed).unwrap());
    let sum = (&through + &more_through).unwrap();
    let copy = |t: &Tensor| t.copy().unwrap();
    [(Beside::Nothing, through), (Beside::Behind(copy(more)), copy(&sum)), (Beside::Before(copy(&more_through)), sum)]
}

#[test]
fn gradients_go_on_through_the_relu_that_made_the_input() {
    for case in cases() {
        let ((y, w, dy), more) = (case.tensors(), values(&case.shape, 9));
        let on = |[y, w, dy, more]: [&Tensor; 4], bound: f64| {
            let dx = conv2d_backward_data(dy, w, &case.geometry, case.size()).unwrap();
            for (beside, want) in ways_on(&dx, more, y) {
                let what = format!("{:?} {:?} {beside:?}", case.shape, case.geometry);
                let found = conv2d_backward_data_before_relu(dy, w, &case.geometry, beside, y).unwrap();
                assert!(distance(&found, &want) < bound, "{what}");
            }
        };
        on([&y, &w, &dy, &more], 1e-15);
        on([&narrow(&y), &narrow(&w), &narrow(&dy), &narrow(&more)], 1e-6);
    }
}

#[test]
fn gradients_go_on_with_every_instruction_set() {
    for case in cases().into_iter().filter(|case| case.geometry.groups == 1) {
        let ((y, w, dy), more, s) = (case.tensors(), values(&case.shape, 9), case.conv_shape());
        let [y, dy, more] = [y, dy, more].map(|t| flat(&rows(&narrow(&t)).unwrap()));
        let w = flat(&narrow(&w));
        for (arch, algorithm) in instruction_sets().into_iter().map(|arch| (arch, Algorithm::of(&s))) {
            let dx = fast::conv2d_backward_data(arch, algorithm, &dy, &w, &s, None);
            let through = fast::conv2d_backward_data(arch, algorithm, &dy, &w, &s, Some(&y));
            assert!(
                through.iter().zip(&dx).zip(&y).all(|((through, dx), y)| *through == if *y > 0.0 { *dx } else { 0.0 })
            );
            for there in [fast::There::Behind, fast::There::Before] {
                let passes = |place: usize| y[place] > 0.0;
                let through = |place: usize| there == fast::There::Behind || passes(place);
                let more: Vec<f32> = (0..y.len()).map(|k| if through(k) { more[k] } else { 0.0 }).collect();
                let sum = |k: usize| if passes(k) { f64::from(dx[k]) + f64::from(more[k]) } else { 0.0 };
                let mut found = more.clone();
                fast::conv2d_backward_data_beside(arch, algorithm, &dy, &w, &s, Some(&y), (there, &mut found));
                let found: Vec<f64> = found.into_iter().map(f64::from).collect();
                let off = off(&found, &(0..y.len()).map(sum).collect::<Vec<_>>());
                assert!(off < 1e-6, "{arch:?} {algorithm:?} {there:?} {:?}: {off:e}", case.shape);
            }
        }
    }
}

/// Winograd's error for the stages of a ResNet-18: the bounds that docs/architecture.md names.
#[test]
fn winograds_error_stays_in_its_bounds_for_the_shapes_of_a_resnet() {
    let unit = [(32, 16), (32, 64), (16, 128), (8, 256), (4, 512), (14, 64), (7, 128)].map(|shape| (shape, 1));
    let strided = [(32, 16), (32, 64), (16, 128), (8, 256), (14, 64), (7, 128), (8, 384)].map(|shape| (shape, 2));
    for ((side, channels), stride) in unit.into_iter().chain(strided) {
        let geometry = Conv2dGeometry { kernel: (3, 3), stride, padding: 1, groups: 1, winograd: true };
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
        let g = &case.geometry;
        let composed = [
            composed::conv2d(&x, &w, g).unwrap(),
            composed::conv2d_backward_data(&dy, &w, g, case.size()).unwrap(),
            composed::conv2d_backward_weight(&x, &dy, g).unwrap(),
        ];
        for (a, b) in composed.iter().zip(&case.all(&x, &w, &dy)) {
            assert!(distance(a, b) < 1e-13, "{:?} {g:?}: {:e}", case.shape, distance(a, b));
        }
    }
}

/// Everything that batch norm needs, for a shape.
struct Norm {
    x: Tensor,
    dy: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    inverse: Tensor,
}

impl Norm {
    fn new(shape: &[usize]) -> Self {
        let x = ((values(shape, 4) * 2.0).unwrap() + 0.7).unwrap();
        let (dy, residual) = (values(shape, 5), values(shape, 6));
        let sums = batch_norm_sums(&x).unwrap();
        let means = (sums / (x.elem_count() / shape[1]) as f64).unwrap();
        let mean = means.get(0).unwrap();
        let variance = (means.get(1).unwrap() - mean.sqr().unwrap()).unwrap();
        let inverse = (variance + 1e-5).unwrap().sqrt().unwrap().recip().unwrap();
        Self { weight: values(&shape[1..2], 7), bias: values(&shape[1..2], 8), x, dy, residual, mean, inverse }
    }

    /// relu(x̂·weight + bias + residual) with statistics of `x` itself.
    fn output(x: &Tensor, this: &Self) -> Tensor {
        let sums = (batch_norm_sums(x).unwrap() / (x.elem_count() / x.dim(1).unwrap()) as f64).unwrap();
        let mean = sums.get(0).unwrap();
        let variance = (sums.get(1).unwrap() - mean.sqr().unwrap()).unwrap();
        let inverse = (variance + 1e-5).unwrap().sqrt().unwrap().recip().unwrap();
        let scale = (&inverse * &this.weight).unwrap();
        let shift = (&this.bias - (&mean * &scale).unwrap()).unwrap();
        batch_norm_apply(x, &scale, &shift, Some(&this.residual), true).unwrap()
    }

    /// scale, slope and offset of the input's gradient, from sums.
    fn coefficients(&self, sums: &Tensor) -> [Tensor; 3] {
        let means = (sums / (self.x.elem_count() / self.x.dim(1).unwrap()) as f64).unwrap();
        let scale = (&self.inverse * &self.weight).unwrap();
        let slope = ((&scale * &self.inverse).unwrap() * means.get(1).unwrap()).unwrap().neg().unwrap();
        let offset =
            ((&scale * means.get(0).unwrap()).unwrap() + (&slope * &self.mean).unwrap()).unwrap().neg().unwrap();
        [scale, slope, offset]
    }

    fn backward(&self, rectifier: Option<&Rectifier>) -> (Tensor, Tensor) {
        let sums = batch_norm_backward_sums(&self.dy, rectifier, &self.x, &self.mean, &self.inverse).unwrap();
        let [scale, slope, offset] = self.coefficients(&sums);
        let dx = batch_norm_backward(&self.dy, rectifier, &self.x, [&scale, &slope, &offset]).unwrap();
        (sums, dx)
    }
}

const NORM_SHAPES: [&[usize]; 4] = [&[3, 4, 3, 5], &[70, 5], &[4, 3, 9, 2], &[3, 2, 1, 1]];
/// More than a task, and whole vectors with some channels left over.
const LARGE_NORM: &[usize] = &[5, 33, 23, 29];

#[test]
fn batch_norm_gradients_agree_with_finite_differences() {
    for shape in NORM_SHAPES {
        let norm = Norm::new(shape);
        let y = Norm::output(&norm.x, &norm);
        let before = Norm { dy: relu_backward(norm.dy.clone(), None, &y).unwrap(), ..Norm::new(shape) };
        let (_, dx) = before.backward(None);
        let (dx, x) = (vector(&dx), vector(&norm.x));
        for i in (0..x.len()).step_by(3) {
            let loss = |by: f64| {
                let mut moved = x.clone();
                moved[i] += by;
                let moved = Tensor::from_vec(moved, shape, &Device::Cpu).unwrap();
                dot(&Norm::output(&moved, &norm), &norm.dy)
            };
            // Central differences with steps of 1e-6: an error of about 1e-8 from rounding, where no ReLU turns.
            let want = (loss(1e-6) - loss(-1e-6)) / 2e-6;
            assert!((dx[i] - want).abs() < 1e-6, "{shape:?} {i}: {} {want}", dx[i]);
        }
    }
}

#[test]
fn batch_norm_in_f32_and_composed_is_near_f64() {
    for shape in NORM_SHAPES.into_iter().chain([LARGE_NORM]) {
        let norm = Norm::new(shape);
        let Norm { x, dy, residual, weight, bias, mean, inverse } = &norm;
        let y = Norm::output(x, &norm);
        let low = |t: &Tensor| narrow(t);
        let applied = batch_norm_apply(x, weight, bias, Some(residual), true).unwrap();
        let composed = composed::batch_norm_apply(x, weight, bias, Some(residual), true).unwrap();
        assert!(distance(&composed, &applied) < 1e-15);
        let fast = batch_norm_apply(&low(x), &low(weight), &low(bias), Some(&low(residual)), true).unwrap();
        assert!(distance(&fast, &applied) < 1e-6);
        let in_place = batch_norm_apply_in_place(low(x), &low(weight), &low(bias), Some(&low(residual)), true).unwrap();
        assert_eq!(vector(&in_place), vector(&fast));
        let in_place = batch_norm_apply_in_place(x.copy().unwrap(), weight, bias, Some(residual), true).unwrap();
        assert_eq!(vector(&in_place), vector(&applied));
        // Composed sums are rounded to f32.
        let sums = batch_norm_sums(x).unwrap();
        assert!(distance(&composed::batch_norm_sums(x).unwrap(), &sums) < 1e-6);
        assert!(distance(&batch_norm_sums(&low(x)).unwrap(), &sums) < 1e-6);
        let lifted = Rectifier { scale: weight.clone(), shift: bias.clone() };
        let narrow_lifted = Rectifier { scale: low(weight), shift: low(bias) };
        for (rectifier, narrow_rectifier) in [(None, None), (Some(&lifted), Some(&narrow_lifted))] {
            let (sums, dx) = norm.backward(rectifier);
            let [scale, slope, offset] = norm.coefficients(&sums);
            let ys = rectifier.map(|rectifier| rectifier.output(x).unwrap());
            let composed_sums = composed::batch_norm_backward_sums(dy, ys.as_ref(), x, mean, inverse).unwrap();
            assert!(distance(&composed_sums, &sums) < 1e-6);
            let composed_dx = composed::batch_norm_backward(dy, ys.as_ref(), x, [&scale, &slope, &offset]).unwrap();
            assert!(distance(&composed_dx, &dx) < 1e-12);
            let fast_sums =
                batch_norm_backward_sums(&low(dy), narrow_rectifier, &low(x), &low(mean), &low(inverse)).unwrap();
            assert!(distance(&fast_sums, &sums) < 1e-6, "{shape:?} {rectifier:?}");
            let coefficients = [&low(&scale), &low(&slope), &low(&offset)];
            let fast_dx = batch_norm_backward(&low(dy), narrow_rectifier, &low(x), coefficients).unwrap();
            // Where terms cancel, their roundings stay.
            assert!(distance(&fast_dx, &dx) < 1e-5, "{shape:?} {rectifier:?} {:e}", distance(&fast_dx, &dx));
            let in_place = batch_norm_backward_in_place(&low(dy), narrow_rectifier, low(x), coefficients).unwrap();
            assert_eq!(vector(&in_place), vector(&fast_dx));
        }
        for more in [None, Some(residual)] {
            let want = relu_backward(dy.clone(), more, &y).unwrap();
            assert!(distance(&composed::relu_backward(dy, more, &y).unwrap(), &want) < 1e-15);
            let narrow_more = more.map(low);
            let fast = relu_backward(low(dy), narrow_more.as_ref(), &low(&y)).unwrap();
            assert!(distance(&fast, &want) < 1e-6);
        }
    }
}

#[test]
fn products_in_f32_are_near_f64() {
    // Fewer than a vector, more than a panel, a task and a run, nothing at all; and with either side the smaller to turn.
    for (m, k, n) in [(3, 5, 7), (70, 33, 130), (5, 1030, 400), (400, 1030, 5), (1, 1, 1), (390, 17, 3), (0, 4, 2)] {
        let (a, b) = (values(&[m, k], 20), values(&[k, n], 21));
        let turned = |t: &Tensor| t.t().unwrap().contiguous().unwrap();
        let (a_turned, b_turned) = (turned(&a), turned(&b));
        let want = if m == 0 { Tensor::zeros((m, n), a.dtype(), &Device::Cpu) } else { a.matmul(&b) }.unwrap();
        type Product = fn(&Tensor, &Tensor) -> Result<Tensor>;
        let products: [(Product, _, _); 3] =
            [(times, &a, &b), (times_transposed, &a, &b_turned), (transposed_times, &a_turned, &b)];
        for (product, a, b) in products {
            let (portable, fast) = (product(a, b).unwrap(), product(&narrow(a), &narrow(b)).unwrap());
            assert_eq!((portable.dims(), fast.dims()), (want.dims(), want.dims()));
            if m > 0 {
                assert!(distance(&portable, &want) < 1e-15);
                assert!(distance(&fast, &want) < 1e-6, "{m} {k} {n}: {:e}", distance(&fast, &want));
            }
        }
        let strided = times(&narrow(&a_turned).t().unwrap(), &narrow(&b)).unwrap();
        assert_eq!(vector(&strided), vector(&times(&narrow(&a), &narrow(&b)).unwrap()), "any layout is taken");
        assert!(times(&a, &values(&[k + 1, n], 1)).unwrap_err().to_string().contains("meet with"));
    }
}

/// PyTorch's answer where a window holds equal values: the first one wins.
#[test]
fn pools_agree_with_their_definitions_and_the_composed_form() {
    for (shape, kernel, stride, padding) in [([3, 2, 7, 8], 3, 2, 1), ([3, 1, 6, 6], 2, 2, 0), ([4, 19, 5, 9], 3, 1, 1)]
    {
        // Few distinct values, so that there are ties.
        let x = (values(&shape, 9) * 2.0).unwrap().round().unwrap();
        let (y, winners) = max_pool2d(&x, kernel, stride, padding).unwrap();
        let g = Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups: 1, winograd: true };
        let (other, other_winners) = composed::max_pool2d(&x, &g).unwrap();
        assert_eq!(vector(&y), vector(&other));
        assert_eq!(vector(&winners), vector(&other_winners), "{shape:?}");
        let dy = values(y.dims(), 10);
        let dx = max_pool2d_backward(&dy, &winners, (shape[2], shape[3])).unwrap();
        assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-12);
        let other = composed::max_pool2d_backward(&dy, &winners, (shape[2], shape[3])).unwrap();
        assert!(distance(&other, &dx) < 1e-15);
        let pooled = global_average_pool(&x).unwrap();
        let dy = values(pooled.dims(), 11);
        let dx = global_average_pool_backward(&dy, (shape[2], shape[3])).unwrap();
        assert!((dot(&pooled, &dy) - dot(&x, &dx)).abs() < 1e-12);
        let other = composed::global_average_pool_backward(&dy, (shape[2], shape[3])).unwrap();
        assert!(distance(&other, &dx) < 1e-15);
        fast_pools_equal_the_portable_ones(&x, (kernel, stride, padding));
    }
}

fn fast_pools_equal_the_portable_ones(x: &Tensor, (kernel, stride, padding): (usize, usize, usize)) {
    let size = (x.dim(2).unwrap(), x.dim(3).unwrap());
    let (y, winners) = max_pool2d(x, kernel, stride, padding).unwrap();
    let (fast_y, fast_winners) = max_pool2d(&narrow(x), kernel, stride, padding).unwrap();
    assert_eq!((vector(&fast_y), vector(&fast_winners)), (vector(&y), vector(&winners)));
    let dy = values(y.dims(), 12);
    let dx = max_pool2d_backward(&dy, &winners, size).unwrap();
    assert!(distance(&max_pool2d_backward(&narrow(&dy), &fast_winners, size).unwrap(), &dx) < 1e-6);
    let pooled = global_average_pool(x).unwrap();
    assert!(distance(&global_average_pool(&narrow(x)).unwrap(), &pooled) < 1e-6);
    let dy = values(pooled.dims(), 13);
    let dx = global_average_pool_backward(&dy, size).unwrap();
    assert!(distance(&global_average_pool_backward(&narrow(&dy), size).unwrap(), &dx) < 1e-6);
}

#[test]
fn results_are_the_same_bits_for_any_number_of_threads() {
    let with = |threads: usize| -> Vec<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut all = Vec::new();
            for case in cases() {
                let (x, w, dy) = case.tensors();
                all.extend(case.all(&narrow(&x), &narrow(&w), &narrow(&dy)).iter().map(vector));
            }
            let (a, b) = (narrow(&values(&[70, 700], 20)), narrow(&values(&[600, 700], 21)));
            all.push(vector(&times_transposed(&a, &b).unwrap()));
            for shape in NORM_SHAPES {
                let norm = Norm::new(shape);
                let norm = Norm {
                    x: narrow(&norm.x),
                    dy: narrow(&norm.dy),
                    residual: narrow(&norm.residual),
                    weight: narrow(&norm.weight),
                    bias: narrow(&norm.bias),
                    mean: narrow(&norm.mean),
                    inverse: narrow(&norm.inverse),
                };
                let sums = batch_norm_backward_sums(&norm.dy, None, &norm.x, &norm.mean, &norm.inverse).unwrap();
                all.extend([vector(&sums), vector(&batch_norm_sums(&norm.x).unwrap())]);
            }
            all
        })
    };
    let reference = with(1);
    assert!(reference == with(2) && reference == with(7));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let g = Conv2dGeometry { kernel: (3, 3), stride: 1, padding: 0, groups: 1, winograd: true };
    let told = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(told(conv2d(values(&[1, 2, 2, 5], 1), &values(&[4, 2, 3, 3], 1), &g)).contains("does not fit"));
    assert!(told(conv2d(values(&[1, 3, 5, 5], 1), &values(&[4, 2, 3, 3], 1), &g)).contains("does not fit"));
    let three = Conv2dGeometry { groups: 3, ..g };
    assert!(told(conv2d(values(&[1, 3, 5, 5], 1), &values(&[4, 1, 3, 3], 1), &three)).contains("3 groups"));
    assert!(told(conv2d_backward_weight(values(&[1, 2, 5, 5], 1), &values(&[1, 4, 4, 4], 1), &g)).contains("gradient"));
    let x = values(&[2, 3, 2, 2], 1);
    assert!(told(batch_norm_apply(&x, &values(&[2], 1), &values(&[3], 1), None, false)).contains("3 channels"));
}
