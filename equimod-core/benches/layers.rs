//! Benchmarks of single layers and losses: `cargo bench -p equimod-core --bench layers`.
#![allow(clippy::unwrap_used, missing_docs)]

use candle_core::{Device, Tensor, Var};
use divan::{Bencher, black_box};
use equimod_core::SingleProcess;
use equimod_core::objective::nt_xent;
use equimod_core::ops::{
    Accumulate, Conv2dGeometry, ConvAlgorithms, ConvInput, ScaleShiftRelu, batch_norm_apply, batch_norm_backward,
    batch_norm_backward_sums, conv2d, conv2d_backward_data, conv2d_backward_data_relu, conv2d_backward_weight,
    conv2d_with_sums, matmul, matmul_nt, matmul_tn, max_pool2d, max_pool2d_backward,
};

fn main() {
    // As in the command, except for large pages; otherwise the benchmark would measure the clearing of pages by the
    // system.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two numbers and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
    divan::main();
}

/// Number of images of a batch.
const BATCH: usize = 96;

fn noise(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

/// A tensor `[N, C, side, side]` in rows of channels, as produced by a layer.
fn images(channels: usize, side: usize) -> Tensor {
    noise(&[BATCH, side, side, channels]).permute((0, 3, 1, 2)).unwrap()
}

/// (channels in, channels out, side, kernel, stride) of a ResNet-18's layers.
const LAYERS: [(usize, usize, usize, usize, usize); 6] = [
    (64, 64, 32, 3, 1),
    (128, 128, 16, 3, 1),
    (256, 256, 8, 3, 1),
    (512, 512, 4, 3, 1),
    (64, 128, 32, 3, 2),
    (64, 128, 32, 1, 2),
];

struct Conv {
    xs: Tensor,
    weight: Tensor,
    dys: Tensor,
    geometry: Conv2dGeometry,
    side: usize,
}

impl Conv {
    fn new((inputs, outputs, side, kernel, stride): (usize, usize, usize, usize, usize)) -> Self {
        let (kernels, padding, groups, algorithms) = ((kernel, kernel), kernel / 2, 1, ConvAlgorithms::default());
        let geometry = Conv2dGeometry { kernel: kernels, stride, padding, groups, algorithms };
        let (xs, weight) = (images(inputs, side), noise(&[outputs, inputs, kernel, kernel]));
        Self { xs, weight, dys: images(outputs, side.div_ceil(stride)), geometry, side }
    }
}

#[divan::bench(args = LAYERS)]
fn conv_forward(bencher: Bencher, layer: (usize, usize, usize, usize, usize)) {
    let c = Conv::new(layer);
    bencher.bench_local(|| conv2d_with_sums(&c.xs, &c.weight, &c.geometry).unwrap());
}

#[divan::bench(args = LAYERS)]
fn conv_forward_of_activated(bencher: Bencher, layer: (usize, usize, usize, usize, usize)) {
    let c = Conv::new(layer);
    let activation = Some(ScaleShiftRelu { scale: noise(&[layer.0]), shift: noise(&[layer.0]) });
    let input = ConvInput { values: c.xs, activation };
    bencher.bench_local(|| conv2d_with_sums(&input, &c.weight, &c.geometry).unwrap());
}

#[divan::bench(args = LAYERS)]
fn conv_forward_for_inference(bencher: Bencher, layer: (usize, usize, usize, usize, usize)) {
    let c = Conv::new(layer);
    bencher.bench_local(|| conv2d(&c.xs, &c.weight, &c.geometry).unwrap());
}

#[divan::bench(args = LAYERS)]
fn conv_backward_data(bencher: Bencher, layer: (usize, usize, usize, usize, usize)) {
    let c = Conv::new(layer);
    bencher.bench_local(|| conv2d_backward_data(&c.dys, &c.weight, &c.geometry, (c.side, c.side)).unwrap());
}

#[divan::bench(args = LAYERS)]
fn conv_backward_data_relu(bencher: Bencher, layer: (usize, usize, usize, usize, usize)) {
    let c = Conv::new(layer);
    bencher.with_inputs(|| Accumulate::AddThenMask(c.xs.copy().unwrap())).bench_local_values(|accumulate| {
        conv2d_backward_data_relu(&c.dys, &c.weight, &c.geometry, &c.xs, accumulate).unwrap()
    });
}

#[divan::bench(args = LAYERS)]
fn conv_backward_weight(bencher: Bencher, layer: (usize, usize, usize, usize, usize)) {
    let c = Conv::new(layer);
    bencher.bench_local(|| conv2d_backward_weight(&c.xs, &c.dys, &c.geometry).unwrap());
}

#[divan::bench]
fn batch_norm_forward(bencher: Bencher) {
    let (xs, scale, shift) = (images(64, 32), noise(&[64]), noise(&[64]));
    bencher.bench_local(|| batch_norm_apply(&xs, &scale, &shift, None, true).unwrap());
}

#[divan::bench]
fn batch_norm_back(bencher: Bencher) {
    let (xs, dys, [a, b, c]) = (images(64, 32), images(64, 32), [noise(&[64]), noise(&[64]), noise(&[64])]);
    let activation = Some(&ScaleShiftRelu { scale: a.clone(), shift: b.clone() });
    bencher.bench_local(|| {
        black_box(batch_norm_backward_sums(&dys, activation, &xs, &a, &b).unwrap());
        batch_norm_backward(&dys, activation, &xs, [&a, &b, &c]).unwrap()
    });
}

/// A hidden layer of a head: 96 embeddings of 2048 values.
#[divan::bench]
fn linear_layer(bencher: Bencher) {
    let (xs, dys, weight) = (noise(&[96, 2048]), noise(&[96, 2048]), noise(&[2048, 2048]));
    bencher.bench_local(|| {
        black_box(matmul_nt(&xs, &weight).unwrap());
        black_box(matmul(&dys, &weight).unwrap());
        matmul_tn(&dys, &xs).unwrap()
    });
}

#[divan::bench]
fn max_pool(bencher: Bencher) {
    let xs = images(64, 64);
    bencher.bench_local(|| {
        let (ys, winners) = max_pool2d(&xs, 3, 2, 1).unwrap();
        max_pool2d_backward(&ys, &winners).unwrap()
    });
}

/// Rows of EquiMod for batches of 64, 512 and 4096 images: embeddings and predicted embeddings of two views each.
#[divan::bench(args = [256, 2048, 16384], sample_count = 5, sample_size = 1)]
fn nt_xent_with_gradient(bencher: Bencher, rows: usize) {
    let zs = Var::from_tensor(&noise(&[rows, 128])).unwrap();
    bencher.bench_local(|| nt_xent(zs.as_tensor(), 0.2, &SingleProcess).unwrap().backward().unwrap());
}
