//! `equimod bench conv`.

use std::process::ExitCode;
use std::time::Instant;

use candle_core::{Device, Tensor};
use equimod_core::ops::{Conv2dGeometry, ConvAlgorithms, conv2d, conv2d_backward_data, conv2d_backward_weight};
use serde_json::json;

use super::median;
use crate::cli::BenchConv;
use crate::outputs::console;

/// A convolution of a ResNet-18 with the CIFAR stem.
struct Layer {
    name: &'static str,
    /// Input and output channels in multiples of the network's width; 0 stands for the three channels of an image.
    channels: (usize, usize),
    side: usize,
    kernel: usize,
    stride: usize,
}

const fn layer(name: &'static str, channels: (usize, usize), side: usize, kernel: usize, stride: usize) -> Layer {
    Layer { name, channels, side, kernel, stride }
}

const LAYERS: [Layer; 11] = [
    layer("stem", (0, 1), 32, 3, 1),
    layer("stage 1", (1, 1), 32, 3, 1),
    layer("stage 2, strided", (1, 2), 32, 3, 2),
    layer("stage 2, shortcut", (1, 2), 32, 1, 2),
    layer("stage 2", (2, 2), 16, 3, 1),
    layer("stage 3, strided", (2, 4), 16, 3, 2),
    layer("stage 3, shortcut", (2, 4), 16, 1, 2),
    layer("stage 3", (4, 4), 8, 3, 1),
    layer("stage 4, strided", (4, 8), 8, 3, 2),
    layer("stage 4, shortcut", (4, 8), 8, 1, 2),
    layer("stage 4", (8, 8), 4, 3, 1),
];

/// Side of the matrices whose product approximates the machine's peak.
const PEAK_SIDE: usize = 1536;

/// GFLOP/s of a layer's three operations, counting two FLOPs per MAC of the direct algorithm.
struct Rates {
    name: &'static str,
    forward: f64,
    data: f64,
    weight: f64,
}

/// Runs the benchmark.
///
/// # Errors
///
/// If a tensor operation fails.
pub fn run(arguments: &BenchConv) -> anyhow::Result<ExitCode> {
    let peak = product_rate(arguments.steps)?;
    let rates = LAYERS.iter().map(|layer| layer.rates(arguments)).collect::<anyhow::Result<Vec<_>>>()?;
    print(arguments, peak, &rates)?;
    Ok(ExitCode::SUCCESS)
}

impl Layer {
    fn rates(&self, arguments: &BenchConv) -> anyhow::Result<Rates> {
        let &Layer { name, channels, side, kernel, stride } = self;
        let width = arguments.width as usize;
        let (inputs, outputs) = (if channels.0 == 0 { 3 } else { channels.0 * width }, channels.1 * width);
        let geometry = Conv2dGeometry {
            kernel: (kernel, kernel),
            stride,
            padding: kernel / 2,
            groups: 1,
            algorithms: ConvAlgorithms::default(),
        };
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu);
        let weight = random(&[outputs, inputs, kernel, kernel])?;
        // In the layout of the kernels, as a previous layer would produce it.
        let xs = channels_last(&random(&[arguments.batch as usize, side, side, inputs])?)?;
        let ys = conv2d(&xs, &weight, &geometry)?;
        let dys = channels_last(&ys.rand_like(-1.0, 1.0)?.permute((0, 2, 3, 1))?.contiguous()?)?;
        let work = 2e-9 * (ys.elem_count() * inputs * kernel * kernel) as f64;
        Ok(Rates {
            name,
            forward: work / seconds(arguments.steps, || conv2d(&xs, &weight, &geometry))?,
            data: work / seconds(arguments.steps, || conv2d_backward_data(&dys, &weight, &geometry, (side, side)))?,
            weight: work / seconds(arguments.steps, || conv2d_backward_weight(&xs, &dys, &geometry))?,
        })
    }
}

/// View of `[N, H, W, C]` data as `[N, C, H, W]`.
fn channels_last(xs: &Tensor) -> candle_core::Result<Tensor> {
    xs.permute((0, 3, 1, 2))
}

/// GFLOP/s of a product of two large matrices.
fn product_rate(steps: u32) -> anyhow::Result<f64> {
    let square = || Tensor::randn(0f32, 1.0, (PEAK_SIDE, PEAK_SIDE), &Device::Cpu);
    let (a, b) = (square()?, square()?);
    Ok(2e-9 * (PEAK_SIDE as f64).powi(3) / seconds(steps, || a.matmul(&b))?)
}

/// Median time of `steps` calls in seconds, after one warm-up call.
fn seconds(steps: u32, mut call: impl FnMut() -> candle_core::Result<Tensor>) -> anyhow::Result<f64> {
    call()?;
    let mut times = Vec::new();
    for _ in 0..steps {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(times))
}

fn print(arguments: &BenchConv, peak: f64, rates: &[Rates]) -> anyhow::Result<()> {
    let threads = rayon::current_num_threads();
    if arguments.json {
        let layers: Vec<_> = rates
            .iter()
            .map(|r| {
                let Rates { name, forward, data, weight } = r;
                json!({ "layer": name, "forward": forward, "backward_data": data, "backward_weight": weight })
            })
            .collect();
        let (batch, width) = (arguments.batch, arguments.width);
        return console::result(
            &json!({
                "what": "equimod", "batch": batch, "width": width, "threads": threads, "product_gflops": peak,
                "gflops": layers,
            })
            .to_string(),
        );
    }
    let mut text = format!("GFLOP/s, {threads} threads, batch {}; matrix product: {peak:.0}\n", arguments.batch);
    text += &format!("{:18} {:>8} {:>8} {:>8}", "layer", "forward", "data", "weight");
    for r in rates {
        text += &format!("\n{:18} {:8.0} {:8.0} {:8.0}", r.name, r.forward, r.data, r.weight);
    }
    console::result(&text)
}
