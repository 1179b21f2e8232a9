//! All backends against definitions: adjoints and finite differences in f64, f32 and the composed backend against f64,
//! and any number of threads against one.

mod batch_norm;
mod convolution;
#[cfg(feature = "cuda")]
mod cuda;
mod loss;
mod optimizer;
mod seam;

use candle_core::{DType, Device, Result, Tensor};
use pulp::Arch;

use super::composed::Composed;
use super::contract::{BatchNormOps, ConvolutionOps, PoolShape, PoolingOps};
use crate::ops::*;

/// Irregular values of about ±1.
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

/// All instruction sets of this machine, and scalar code.
pub(super) fn instruction_sets() -> Vec<Arch> {
    #[cfg(target_arch = "x86_64")]
    let smaller = pulp::x86::V3::try_new().map(Arch::V3);
    #[cfg(not(target_arch = "x86_64"))]
    let smaller = None;
    [Arch::Scalar, Arch::new()].into_iter().chain(smaller).collect()
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

#[test]
fn products_in_f32_are_near_f64() {
    // Fewer values than a vector; more than a panel, a task and a run; none at all; and either matrix the smaller one
    // to transpose.
    for (m, k, n) in [(3, 5, 7), (70, 33, 130), (5, 1030, 400), (400, 1030, 5), (1, 1, 1), (390, 17, 3), (0, 4, 2)] {
        let (a, b) = (values(&[m, k], 20), values(&[k, n], 21));
        let transposed = |t: &Tensor| t.t().unwrap().contiguous().unwrap();
        let (a_t, b_t) = (transposed(&a), transposed(&b));
        let want = if m == 0 { Tensor::zeros((m, n), a.dtype(), &Device::Cpu) } else { a.matmul(&b) }.unwrap();
        type Product = fn(&Tensor, &Tensor) -> Result<Tensor>;
        let products: [(Product, _, _); 3] = [(matmul, &a, &b), (matmul_nt, &a, &b_t), (matmul_tn, &a_t, &b)];
        for (product, a, b) in products {
            let (portable, fast) = (product(a, b).unwrap(), product(&narrow(a), &narrow(b)).unwrap());
            assert_eq!((portable.dims(), fast.dims()), (want.dims(), want.dims()));
            if m > 0 {
                assert!(distance(&portable, &want) < 1e-15);
                assert!(distance(&fast, &want) < 1e-6, "{m} {k} {n}: {:e}", distance(&fast, &want));
            }
        }
        let strided = matmul(&narrow(&a_t).t().unwrap(), &narrow(&b)).unwrap();
        assert_eq!(vector(&strided), vector(&matmul(&narrow(&a), &narrow(&b)).unwrap()), "any layout is taken");
        assert!(matmul(&a, &values(&[k + 1, n], 1)).unwrap_err().to_string().contains("meet with"));
    }
}

/// For equal values in a window, the first one wins, as in PyTorch.
#[test]
fn pools_agree_with_their_definitions_and_the_composed_form() {
    for (shape, kernel, stride, padding) in [([3, 2, 7, 8], 3, 2, 1), ([3, 1, 6, 6], 2, 2, 0), ([4, 19, 5, 9], 3, 1, 1)]
    {
        // Few distinct values cause ties.
        let x = (values(&shape, 9) * 2.0).unwrap().round().unwrap();
        let (y, found) = max_pool2d(&x, kernel, stride, padding).unwrap();
        let winners = &found.indices;
        let (in_size, out_size) = ((shape[2], shape[3]), (y.dim(2).unwrap(), y.dim(3).unwrap()));
        let s = PoolShape { kernel, stride, padding, in_size, out_size };
        let (other, other_winners) = Composed.max_pool2d(&x, &s).unwrap();
        assert_eq!(vector(&y), vector(&other));
        assert_eq!(vector(winners), vector(&other_winners), "{shape:?}");
        let dy = values(y.dims(), 10);
        let dx = max_pool2d_backward(&dy, &found).unwrap();
        assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-12);
        let other = Composed.max_pool2d_backward(&dy, winners, &s).unwrap();
        assert!(distance(&other, &dx) < 1e-15);
        let pooled = global_average_pool(&x).unwrap();
        let dy = values(pooled.dims(), 11);
        let dx = global_average_pool_backward(&dy, (shape[2], shape[3])).unwrap();
        assert!((dot(&pooled, &dy) - dot(&x, &dx)).abs() < 1e-12);
        let other = Composed.global_average_pool_backward(&dy, (shape[2], shape[3])).unwrap();
        assert!(distance(&other, &dx) < 1e-15);
        fast_pools_equal_the_portable_ones(&x, (kernel, stride, padding));
    }
}

fn fast_pools_equal_the_portable_ones(x: &Tensor, (kernel, stride, padding): (usize, usize, usize)) {
    let size = (x.dim(2).unwrap(), x.dim(3).unwrap());
    let (y, winners) = max_pool2d(x, kernel, stride, padding).unwrap();
    let (fast_y, fast_winners) = max_pool2d(&narrow(x), kernel, stride, padding).unwrap();
    assert_eq!((vector(&fast_y), vector(&fast_winners.indices)), (vector(&y), vector(&winners.indices)));
    let dy = values(y.dims(), 12);
    let dx = max_pool2d_backward(&dy, &winners).unwrap();
    assert!(distance(&max_pool2d_backward(&narrow(&dy), &fast_winners).unwrap(), &dx) < 1e-6);
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
            let (a, b) = (narrow(&values(&[70, 700], 20)), narrow(&values(&[600, 700], 21)));
            let product = vector(&matmul_nt(&a, &b).unwrap());
            [convolution::results(), batch_norm::results(), vec![product]].concat()
        })
    };
    let reference = with(1);
    assert!(reference == with(2) && reference == with(7));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let g = Conv2dGeometry { kernel: (3, 3), stride: 1, padding: 0, groups: 1, algorithms: ConvAlgorithms::default() };
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(conv2d(values(&[1, 2, 2, 5], 1), &values(&[4, 2, 3, 3], 1), &g)).contains("does not fit"));
    assert!(message(conv2d(values(&[1, 3, 5, 5], 1), &values(&[4, 2, 3, 3], 1), &g)).contains("does not fit"));
    let three = Conv2dGeometry { groups: 3, ..g };
    assert!(message(conv2d(values(&[1, 3, 5, 5], 1), &values(&[4, 1, 3, 3], 1), &three)).contains("3 groups"));
    assert!(
        message(conv2d_backward_weight(values(&[1, 2, 5, 5], 1), &values(&[1, 4, 4, 4], 1), &g)).contains("gradient")
    );
    let x = values(&[2, 3, 2, 2], 1);
    assert!(message(batch_norm_apply(&x, &values(&[2], 1), &values(&[3], 1), None, false)).contains("3 channels"));
}
