//! Default methods of the backend traits: a backend with only the required methods agrees with the fast one.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::contract::*;
use super::super::cpu_fast::CpuFast;
use super::*;

/// The required methods in candle's operations, with a count of calls; all others are the default methods.
#[derive(Default)]
struct Smallest {
    calls: AtomicUsize,
}

impl Smallest {
    fn counted(&self) -> &Composed {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &Composed
    }
}

impl ConvolutionOps for Smallest {
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.counted().conv2d(xs, weight, s)
    }

    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.counted().conv2d_backward_data(dys, weight, s)
    }

    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.counted().conv2d_backward_weight(xs, dys, s)
    }
}

impl BatchNormOps for Smallest {
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor> {
        self.counted().batch_norm_sums(xs)
    }

    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        self.counted().batch_norm_apply(xs, scale, shift, residual, relu)
    }

    fn batch_norm_backward_sums(&self, dys: &Tensor, xs: &Tensor, mean: &Tensor, std: &Tensor) -> Result<Tensor> {
        self.counted().batch_norm_backward_sums(dys, xs, mean, std)
    }

    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor> {
        self.counted().batch_norm_backward(dys, xs, coefficients)
    }

    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        self.counted().relu_backward(dys, more, ys)
    }
}

impl PoolingOps for Smallest {
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)> {
        self.counted().max_pool2d(xs, s)
    }

    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor> {
        self.counted().max_pool2d_backward(dys, winners, s)
    }
}

impl LossOps for Smallest {
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
        self.counted().cross_entropy_rows(similarities, targets)
    }
}

impl MatrixOps for Smallest {}

impl OptimizerOps for Smallest {}

impl ImageOps for Smallest {}

/// All operations of a network's block, by the fused methods.
fn block(backend: &dyn Backend) -> Vec<Tensor> {
    let g = Conv2dGeometry { kernel: (3, 3), stride: 1, padding: 1, groups: 1, algorithms: ConvAlgorithms::default() };
    let s = &ConvShape::new(3, 16, 24, (8, 9), &g).unwrap();
    let of = |dims: &[usize], seed: u64| narrow(&values(dims, seed));
    let (xs, weight, dys) = (of(&s.in_dims(), 1), of(&s.weight_dims(), 2), of(&s.out_dims(), 3));
    let per_channel = |seed| of(&[s.in_channels], seed);
    let activation = ScaleShiftRelu { scale: per_channel(4), shift: per_channel(5) };
    let input = ConvInput { values: xs.clone(), activation: Some(activation.clone()) };
    let (other, residual) = (of(&s.in_dims(), 6), of(&s.in_dims(), 7));
    let relu_output = backend.materialize(&input).unwrap();
    let (ys, sums) = backend.conv2d_with_sums(&input, &weight, s).unwrap();
    let mut results = vec![ys, sums, backend.conv2d_of_activated(&input, &weight, s).unwrap()];
    results.push(backend.conv2d_backward_weight_of_activated(&input, &dys, s).unwrap());
    let masked = backend.relu_backward(&other, None, &relu_output).unwrap();
    let copy = |t: &Tensor| t.copy().unwrap();
    for accumulate in
        [Accumulate::Overwrite, Accumulate::AddThenMask(copy(&other)), Accumulate::MaskThenAdd(copy(&masked))]
    {
        results.push(backend.conv2d_backward_data_relu(&dys, &weight, s, &relu_output, accumulate).unwrap());
    }
    let (scale, shift) = (&activation.scale, &activation.shift);
    results.push(backend.batch_norm_apply_in_place(copy(&xs), scale, shift, Some(&residual), true).unwrap());
    results.push(backend.relu_backward_in_place(copy(&other), Some(&residual), &relu_output).unwrap());
    for activation in [None, Some(&activation)] {
        results.push(backend.activated_backward_sums(&other, activation, &xs, shift, scale).unwrap());
        let coefficients = [scale, shift, &per_channel(8)];
        results.push(backend.activated_backward(&other, activation, &xs, coefficients).unwrap());
        results.push(backend.activated_backward_in_place(&other, activation, copy(&xs), coefficients).unwrap());
    }
    results.extend([masked, relu_output]);
    results
}

/// Pools, matrix products, losses and pixel conversion.
fn rest(backend: &dyn Backend) -> Vec<Tensor> {
    let xs = narrow(&values(&[2, 5, 7, 8], 20));
    let s = PoolShape { kernel: 3, stride: 2, padding: 1, in_size: (7, 8), out_size: (4, 4) };
    let (ys, winners) = backend.max_pool2d(&xs, &s).unwrap();
    let means = backend.global_average_pool(&xs).unwrap();
    let mut results = vec![
        backend.max_pool2d_backward(&ys, &winners, &s).unwrap(),
        backend.global_average_pool_backward(&means, s.in_size).unwrap(),
        ys,
        winners,
        means,
    ];
    let (a, b) = (narrow(&values(&[6, 9], 21)), narrow(&values(&[9, 7], 22)));
    let product = backend.matmul(&a, &b).unwrap();
    results.extend([backend.matmul_nt(&product, &b).unwrap(), backend.matmul_tn(&a, &product).unwrap(), product]);
    let (first, local, offset, decoupled) = (0, 6, 0, false);
    let targets = RowTargets { first, local, offset, positives: Positives::OtherHalf, decoupled };
    let (losses, weights) = backend.cross_entropy_rows(narrow(&values(&[6, 6], 23)), &targets).unwrap();
    results.extend([losses, weights]);
    let pixels: Vec<u8> = (0..2 * 5 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let (shape, channels) = (PixelShape { count: 2, height: 5, width: 7 }, [[0.4, 0.5, 0.6], [0.2, 0.25, 0.3]]);
    results.push(backend.normalized(&pixels, shape, channels, &Device::Cpu, DType::F32).unwrap());
    results
}

#[test]
fn a_backend_of_the_required_methods_alone_agrees_with_the_fast_one() {
    let smallest = Smallest::default();
    for of in [block as fn(&dyn Backend) -> Vec<Tensor>, rest] {
        for (number, (provided, fast)) in of(&smallest).iter().zip(of(&CpuFast)).enumerate() {
            // Winograd's algorithm in f32 is within 6e-6 of the exact result.
            let off = distance(provided, &fast);
            assert!(off < 1e-5, "result {number}: {off:e}");
        }
    }
    assert!(smallest.calls.load(Ordering::Relaxed) > 25, "fused methods are made of the required ones");
}

#[test]
fn bf16_goes_to_the_cpu_kernels_by_rounding_and_other_types_to_the_composed_backend() {
    // Only the CPU kernels compute sums in f64.
    let sums = |dtype: DType| {
        let xs = values(&[2, 3, 4, 4], 1).to_dtype(dtype).unwrap();
        super::super::of(&xs).batch_norm_sums(&xs).unwrap().dtype()
    };
    let types = [DType::F32, DType::F64, DType::BF16, DType::F16];
    assert_eq!(types.map(sums), [DType::F64, DType::F64, DType::F64, DType::F32]);
}
