//! Every kernel against its definition: adjoints and finite differences in f64, f32 and the composed form against f64,
//! any number of threads against one.

use candle_core::{DType, Device, Tensor};

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
        geometry: Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups },
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
    let Conv2dGeometry { kernel: (kh, kw), stride, padding, groups } = case.geometry;
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
            // Some thousand roundings of 6e-8 that add like a random walk.
            let off = distance(got, want);
            assert!(off < 2e-6, "{:?} {:?}: {off:e}", case.shape, case.geometry);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_direct_kernels_are_used_and_agree_with_unfolding() {
    for case in cases().into_iter().filter(|case| case.shape[3] % 8 == 0 && case.geometry.kernel == (3, 3)) {
        let (x, w, dy) = case.tensors();
        let (x, w, dy) = (narrow(&x), narrow(&w), narrow(&dy));
        let (channels, outputs) = (case.shape[1], case.out_channels);
        let shape = ConvShape::new(case.shape[0], channels, outputs, case.size(), &case.geometry).unwrap();
        if !direct::takes(&shape) {
            continue;
        }
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (x, w, dy) = (flat(&x), flat(&w), flat(&dy));
        let near = |a: &[f32], b: &[f32], what: &str| {
            let scale = b.iter().map(|v| v.abs()).fold(0f32, f32::max);
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(off < 2e-6 * scale * (channels as f32).sqrt(), "{what} {:?}: {off:e} of {scale}", case.shape);
        };
        let (mut a, mut b) = (vec![0f32; dy.len()], vec![0f32; dy.len()]);
        direct::forward(&x, &w, &shape, &mut a);
        im2col::forward(&x, &w, &shape, &mut b);
        near(&a, &b, "forward");
        let (mut a, mut b) = (vec![0f32; x.len()], vec![0f32; x.len()]);
        direct::backward_data(&dy, &w, &shape, &mut a);
        im2col::backward_data(&dy, &w, &shape, &mut b);
        near(&a, &b, "backward data");
        let (mut a, mut b) = (vec![0f32; w.len()], vec![0f32; w.len()]);
        direct::backward_weight(&x, &dy, &shape, &mut a);
        im2col::backward_weight(&x, &dy, &shape, &mut b);
        near(&a, &b, "backward weight");
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

    fn backward(&self, y: Option<&Tensor>) -> (Tensor, Tensor, Option<Tensor>) {
        let Self { x, dy, weight, mean, inverse, .. } = self;
        let sums = batch_norm_backward_sums(dy, y, x, mean, inverse).unwrap();
        let means = (&sums / (x.elem_count() / x.dim(1).unwrap()) as f64).unwrap();
        let (a, b) = (means.get(0).unwrap(), means.get(1).unwrap());
        let (dx, residual) = batch_norm_backward(dy, y, x, mean, inverse, Some(weight), &a, &b, true).unwrap();
        (sums, dx, residual)
    }
}

const NORM_SHAPES: [&[usize]; 4] = [&[3, 4, 3, 5], &[70, 5], &[4, 3, 9, 2], &[3, 2, 1, 1]];

#[test]
fn batch_norm_gradients_agree_with_finite_differences() {
    for shape in NORM_SHAPES {
        let norm = Norm::new(shape);
        let y = Norm::output(&norm.x, &norm);
        let (_, dx, residual) = norm.backward(Some(&y));
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
        let masked: Vec<f64> =
            vector(&norm.dy).iter().zip(vector(&y)).map(|(d, y)| if y > 0.0 { *d } else { 0.0 }).collect();
        assert_eq!(vector(&residual.unwrap()), masked);
    }
}

#[test]
fn batch_norm_in_f32_and_composed_is_near_f64() {
    for shape in NORM_SHAPES {
        let norm = Norm::new(shape);
        let y = Norm::output(&norm.x, &norm);
        let (sums, dx, _) = norm.backward(Some(&y));
        let Norm { x, dy, residual, weight, bias, mean, inverse } = &norm;
        let means = (&sums / (x.elem_count() / shape[1]) as f64).unwrap();
        let (a, b) = (means.get(0).unwrap(), means.get(1).unwrap());
        let scales = [mean, inverse, &a, &b];
        // Composed sums are rounded to f32; the rest stays in f64.
        assert!(distance(&composed::batch_norm_sums(x).unwrap(), &batch_norm_sums(x).unwrap()) < 1e-6);
        let other = composed::batch_norm_backward_sums(dy, Some(&y), x, mean, inverse).unwrap();
        assert!(distance(&other, &sums) < 1e-6);
        let other = composed::batch_norm_backward(dy, Some(&y), x, scales, Some(weight)).unwrap();
        assert!(distance(&other, &dx) < 1e-12);
        let applied = composed::batch_norm_apply(x, weight, bias, Some(residual), true).unwrap();
        assert!(distance(&applied, &batch_norm_apply(x, weight, bias, Some(residual), true).unwrap()) < 1e-15);
        let low = batch_norm_apply(&narrow(x), &narrow(weight), &narrow(bias), Some(&narrow(residual)), true).unwrap();
        assert!(distance(&low, &applied) < 1e-6);
        assert!(distance(&batch_norm_sums(&narrow(x)).unwrap(), &batch_norm_sums(x).unwrap()) < 1e-6);
    }
}

/// PyTorch's answer where a window holds equal values: the first one wins.
#[test]
fn pools_agree_with_their_definitions_and_the_composed_form() {
    for (shape, kernel, stride, padding) in [([3, 2, 7, 8], 3, 2, 1), ([3, 1, 6, 6], 2, 2, 0), ([4, 2, 5, 9], 3, 1, 1)]
    {
        // Few distinct values, so that there are ties.
        let x = (values(&shape, 9) * 2.0).unwrap().round().unwrap();
        let (y, winners) = max_pool2d(&x, kernel, stride, padding).unwrap();
        let g = Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups: 1 };
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
    }
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
            for shape in NORM_SHAPES {
                let norm = Norm::new(shape);
                let (sums, dx, _) = norm.backward(None);
                all.extend([vector(&sums), vector(&dx)]);
            }
            all
        })
    };
    let reference = with(1);
    assert!(reference == with(2) && reference == with(7));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let g = Conv2dGeometry { kernel: (3, 3), stride: 1, padding: 0, groups: 1 };
    let told = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(told(conv2d(&values(&[1, 2, 2, 5], 1), &values(&[4, 2, 3, 3], 1), &g)).contains("does not fit"));
    assert!(told(conv2d(&values(&[1, 3, 5, 5], 1), &values(&[4, 2, 3, 3], 1), &g)).contains("does not fit"));
    let three = Conv2dGeometry { groups: 3, ..g };
    assert!(told(conv2d(&values(&[1, 3, 5, 5], 1), &values(&[4, 1, 3, 3], 1), &three)).contains("3 groups"));
    assert!(
        told(conv2d_backward_weight(&values(&[1, 2, 5, 5], 1), &values(&[1, 4, 4, 4], 1), &g)).contains("gradient")
    );
    let strided = values(&[1, 2, 6, 5], 1).transpose(2, 3).unwrap();
    assert!(told(conv2d(&strided, &values(&[4, 2, 3, 3], 1), &g)).contains("contiguous"));
    let x = values(&[2, 3, 2, 2], 1);
    assert!(told(batch_norm_apply(&x, &values(&[2], 1), &values(&[3], 1), None, false)).contains("3 channels"));
}
