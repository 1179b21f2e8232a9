//! Benchmarks of whole steps on noise: `cargo bench -p equimod-core --bench step`. `equimod bench step` times their
//! parts.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use divan::Bencher;
use equimod_core::{Method, MethodConfig, OptimizerConfig, Parameters, Placement, Progress, SingleProcess, StepBatch};

/// Width of the augmentation parameter vectors of SimCLR on CIFAR-10.
const PARAMETERS: usize = 15;

fn main() {
    divan::main();
}

/// Objectives that are measured.
const OBJECTIVES: [&str; 6] = ["simclr", "byol", "barlow-twins", "vicreg", "simsiam", "moco-v3"];

/// Steps of the size of the quick recipe: width 16, 64 images of 32 pixels.
#[divan::bench(args = OBJECTIVES, sample_count = 10, sample_size = 1)]
fn with_equimod(bencher: Bencher, objective: &str) {
    let heads = match objective {
        "simclr" => r#""projection_head": "512-512-128 bn-""#,
        "barlow-twins" | "vicreg" => r#""projection_head": "512-512-512""#,
        _ => r#""projection_head": "512-128 bn-", "predictor": "512-128""#,
    };
    let text = format!(
        r#"{{"backbone": {{"width": 16}}, "objective": {{"kind": "{objective}", {heads}}},
            "equivariance": {{"equimod": {{"projection_head": "512-512-128 bn-"}}}}}}"#
    );
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    let (device, collective, execution) = (&Device::Cpu, SingleProcess::shared(), Default::default());
    let placement = Placement { seed: 0, dtype: DType::F32, device, image_size: 32, collective, execution };
    let method = Method::new(&config, &Parameters::of_views(PARAMETERS), placement).unwrap();
    let mut optimizer = OptimizerConfig::Lars(Default::default()).build();
    let noise = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let images = || noise(&[64, 3, 32, 32]);
    let (clean, params) = (Some(images()), Some(noise(&[128, PARAMETERS])));
    let batch = StepBatch { clean, params, ..StepBatch::of_views([images(), images()]) };
    bencher.bench_local(move || {
        let mut outcome = method.step(&batch, Progress::ONLY).unwrap();
        optimizer.step(method.params(), &mut outcome.gradients, 0.1).unwrap();
    });
}
