//! Small models and images.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use equimod_core::checkpoint::to_bytes;
use equimod_core::optim::{AdamW, AdamWConfig};
use equimod_core::{
    Description, Execution, Method, MethodConfig, Model, Normalization, Optimizer, PairValue, Parameters, Placement,
    Preprocessing, Progress, SingleProcess, StepBatch,
};
use equimod_data::{Dataset, Image, Loader, LoaderConfig, MemoryDataset, Pixels, Policy, Size, Task};
use equimod_eval::equivariance::AugmentationSpec;

/// Side of the images and of the networks' input, in pixels.
pub const SIDE: usize = 16;

/// A network of width 4 as it is before training, with the modules of `equivariance` (JSON), for views of `policy`.
pub fn model(policy: Policy, equivariance: &str) -> Model {
    trained(policy, equivariance, 0)
}

/// The same after `steps` steps on images in three colors, with the equivariance modules alone if there are any.
pub fn trained(policy: Policy, equivariance: &str, steps: u64) -> Model {
    let augmentation = AugmentationSpec::of_policy(policy, &[Size::square(SIDE)]).unwrap();
    let objective = match equivariance {
        "{}" => r#"{"kind": "simclr", "projection_head": "16-8 bn-"}"#,
        _ => r#"{"kind": "none"}"#,
    };
    let text = format!(r#"{{"backbone": {{"width": 4}}, "objective": {objective}, "equivariance": {equivariance}}}"#);
    let method: MethodConfig = serde_json::from_str(&text).unwrap();
    let pair = |name: &String| PairValue {
        name: name.clone(),
        augmentation: "any".into(),
        mean: 0.0,
        std: 1.0,
        reach: 1.0,
        flag: false,
    };
    let pairs = augmentation.pairs.as_ref().map_or_else(Vec::new, |layout| layout.names.iter().map(pair).collect());
    let parameters = Parameters { pair: pairs, ..Parameters::of_views(augmentation.layout.width()) };
    let (device, collective, execution) = (Device::Cpu, SingleProcess::shared(), Execution::default());
    let placement = Placement { seed: 3, dtype: DType::F32, device: &device, image_size: SIDE, collective, execution };
    let built = Method::new(&method, &parameters, placement).unwrap();
    train(&built, &augmentation, steps);
    let description = Description {
        version: "test".into(),
        method,
        preprocessing: Preprocessing { size: SIDE, normalization: Normalization::CIFAR10 },
        parameters,
        augmentation: serde_json::json!({
            "policy": augmentation.policy, "layout": augmentation.layout, "pairs": augmentation.pairs
        }),
        target: false,
        step: steps,
        seed: 3,
    };
    let bytes = to_bytes(&built.params().tensors(""), &serde_json::to_string(&description).unwrap()).unwrap();
    Model::from_bytes(&bytes, Path::new("test.safetensors"), &device).unwrap()
}

fn train(method: &Method, AugmentationSpec { policy, layout, pairs }: &AugmentationSpec, steps: u64) {
    let config = LoaderConfig { batch: 32, clean: true, pairs: pairs.clone(), ..LoaderConfig::default() };
    let loader = Loader::new(colors(96, 0, false), policy.clone(), layout.clone(), &config).unwrap();
    let mut optimizer = AdamW::new(AdamWConfig::default());
    for (step, batch) in (0..steps).zip(loader.start(0).unwrap()) {
        let batch = batch.unwrap();
        let images = |pixels: &Pixels| {
            let size = (pixels.count, SIDE, SIDE);
            Normalization::CIFAR10.tensor(&pixels.bytes, size, &Device::Cpu, DType::F32).unwrap()
        };
        let vectors = |vectors: &[Vec<f32>], width: usize| {
            Tensor::from_vec(vectors.concat(), (2 * batch.indices.len(), width), &Device::Cpu).unwrap()
        };
        let step_batch = StepBatch {
            clean: batch.clean.as_ref().map(images).filter(|_| method.needs().clean_view),
            views: [images(&batch.views[0]), images(&batch.views[1])],
            small: None,
            params: Some(vectors(&batch.params, layout.width())),
            pairs: pairs.as_ref().map(|layout| vectors(&batch.pairs, layout.width())),
        };
        let mut outcome = method.step(&step_batch, Progress { step, total: steps }).unwrap();
        optimizer.step(method.params(), &mut outcome.gradients, 3e-3).unwrap();
    }
}

/// A number in [0, 1) that depends on its key alone.
pub fn noise(key: u64) -> f32 {
    let mut mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^= mixed >> 32;
    (mixed % 1000) as f32 / 1000.0
}

/// A noisy image of one color: red, green or blue.
pub fn colored(color: usize, number: u64) -> Image {
    let value = |i: usize| {
        let base = if i % 3 == color { 170.0 } else { 60.0 };
        (base + 60.0 * noise(number * 10_000 + i as u64)) as u8
    };
    Image::new(Size::square(SIDE), (0..SIDE * SIDE * 3).map(value).collect()).unwrap()
}

/// `count` images in three colors; their labels are the colors, or drawn at random.
pub fn colors(count: usize, first: u64, shuffled: bool) -> Arc<dyn Dataset> {
    let images = (0..count).map(|i| colored(i % 3, first + i as u64)).collect();
    let label = |i: usize| match shuffled {
        true => (noise(77 * (first + i as u64) + 5) * 3.0) as u32,
        false => (i % 3) as u32,
    };
    let task = Task { name: "color".into(), classes: ["red", "green", "blue"].map(String::from).into() };
    let labels = (0..count).map(|i| Some(label(i))).collect();
    Arc::new(MemoryDataset::new("colors", images).unwrap().with_task(task, labels).unwrap())
}
