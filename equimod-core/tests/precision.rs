//! Steps in bf16 compared with the same steps in f32.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{fill, filled_state, values};
use equimod_core::nn::Mode;
use equimod_core::tape::FeatureGradients;
use equimod_core::{
    Architecture, Backbone, Execution, Method, MethodConfig, ParamStore, Parameters, Placement, Precision, Progress,
    ResNet, ResNetConfig, SingleProcess, Stem, StepBatch, StepOutcome,
};

const BYOL: &str = r#"{"kind": "byol", "projection_head": "16-8 bias", "predictor": "8-8 bias"}"#;

fn method(architecture: Architecture, stem: Stem, execution: Execution) -> Method {
    let resnet = ResNetConfig { architecture, stem, width: 8, ..ResNetConfig::default() };
    let text = format!(
        r#"{{"backbone": {}, "objective": {BYOL},
            "equivariance": {{"equimod": {{"projection_head": "16-8 bn-", "parameter_head": "3 bn",
                "predictor": "8 bn-", "tap": "stage2"}}}}}}"#,
        serde_json::to_string(&resnet).unwrap()
    );
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    let (collective, device) = (SingleProcess::shared(), &Device::Cpu);
    let placement = Placement { seed: 3, dtype: DType::F32, device, image_size: 32, collective, execution };
    Method::new(&config, &Parameters::of_views(3), placement).unwrap()
}

fn step(method: &Method) -> StepOutcome {
    let images = |name: &str| fill(name, &[8, 3, 32, 32], 1.0, 0.0, 5);
    let batch = StepBatch {
        clean: Some(images("clean")),
        params: Some(fill("params", &[16, 3], 1.0, 0.0, 5)),
        ..StepBatch::of_views([images("view 1"), images("view 2")])
    };
    method.step(&batch, Progress { step: 1, total: 4 }).unwrap()
}

fn bf16(recompute: bool, parts: usize) -> Execution {
    Execution { precision: Precision::Bf16, recompute, parts, ..Execution::default() }
}

/// Distance of two lists of values, relative to the norm of the first.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    length(&mut a.iter().zip(b).map(|(a, b)| a - b)) / length(&mut a.iter().copied())
}

#[test]
fn a_step_in_bf16_differs_from_f32_by_its_rounding() {
    for (architecture, stem) in [(Architecture::ResNet18, Stem::Cifar), (Architecture::ResNet18, Stem::ImageNet)] {
        let (full, half) =
            (method(architecture, stem, Execution::default()), method(architecture, stem, bf16(false, 1)));
        assert_eq!((full.compute_dtype(), half.compute_dtype()), (DType::F32, DType::BF16));
        let (full_step, half_step) = (step(&full), step(&half));
        let (want, got) = (full_step.read().unwrap(), half_step.read().unwrap());
        // bf16 has 8 significant bits, so one rounding has an error of up to 2⁻⁹ = 0.002.
        assert!((want.loss / got.loss - 1.0).abs() < 0.01, "{stem:?}: {} {}", want.loss, got.loss);
        assert!(want.loss != got.loss, "{stem:?}: nothing was rounded");
        for (name, gradient) in half_step.gradients.iter() {
            assert_eq!(gradient.dtype(), DType::F32, "{name}");
        }
        for (name, slot) in half.params().iter().filter(|(_, slot)| slot.var.dtype().is_float()) {
            assert_eq!(slot.var.dtype(), DType::F32, "{name}");
            let other = values(full.params().get(name).unwrap().var.as_tensor());
            // Running statistics have been updated with a momentum of 0.1.
            assert!(values(slot.var.as_tensor()).iter().zip(other).all(|(a, b)| (a - b).abs() < 0.02), "{name}");
        }
    }
}

/// Values of a network that are rounded to bf16.
#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    None,
    /// Images and the weights of convolutions.
    Inputs,
    /// Those, and the result of every operation.
    Everything,
}

/// Pooled features, and gradients of `Σ features·constants` with respect to all parameters.
fn features_and_gradients(architecture: Architecture, stem: Stem, rounding: Rounding) -> [Vec<f64>; 2] {
    let config = ResNetConfig { architecture, stem, width: 8, ..ResNetConfig::default() };
    let mut store = ParamStore::new(0, DType::F32, &Device::Cpu);
    let net = ResNet::new(&config, Execution::default(), &SingleProcess::shared(), &mut store.root()).unwrap();
    let rounded = |xs: Tensor| match rounding {
        Rounding::Inputs => xs.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap(),
        Rounding::None | Rounding::Everything => xs,
    };
    for (name, slot) in store.iter() {
        let values = filled_state(name, slot.var.shape(), 7, architecture.expansion() == 4);
        let values = values.to_dtype(slot.var.dtype()).unwrap();
        slot.var.set(&if values.rank() == 4 { rounded(values) } else { values }).unwrap();
    }
    let images = rounded(fill("images", &[8, 3, 32, 32], 1.0, 0.0, 5));
    let compute = if rounding == Rounding::Everything { DType::BF16 } else { DType::F32 };
    let (features, tape) = net.forward(&images.to_dtype(compute).unwrap(), Mode::Train).unwrap();
    assert_eq!(features.pooled.dtype(), compute);
    let constants = fill("constants", features.pooled.dims(), 1.0, 0.0, 5).to_dtype(compute).unwrap();
    let gradients = FeatureGradients { pooled: Some(constants), stages: Vec::new() };
    let gradients = tape.backward(gradients).unwrap();
    let pooled = values(&features.pooled.to_dtype(DType::F32).unwrap());
    [pooled, gradients.iter().flat_map(|(_, gradient)| values(gradient)).collect()]
}

/// The error of bf16 against that of rounding images and weights alone, from which nobody expects a better result: two
/// to three times as large forward (a convolution, a batch norm and an addition round behind each weight), and twice as
/// large at most backward, where ReLUs that switch make up most of both.
#[test]
fn a_backbone_in_bf16_is_little_worse_than_one_with_rounded_inputs() {
    let stems = [Stem::Cifar, Stem::ImageNet].map(|stem| (Architecture::ResNet18, stem));
    for (architecture, stem) in stems.into_iter().chain([(Architecture::ResNet50, Stem::ImageNet)]) {
        let of = |rounding| features_and_gradients(architecture, stem, rounding);
        let [exact, inputs, everything] = [Rounding::None, Rounding::Inputs, Rounding::Everything].map(of);
        for (number, factor) in [3.0, 2.0].into_iter().enumerate() {
            let unavoidable = distance(&exact[number], &inputs[number]);
            let off = distance(&exact[number], &everything[number]);
            let what = format!("{architecture:?}, {stem:?}, {number}: {off} and {unavoidable}");
            assert!(off > 0.0 && off < factor * unavoidable, "{what}");
        }
    }
}

#[test]
fn recomputed_activations_are_rounded_alike() {
    let gradients = |execution: Execution| -> Vec<f64> {
        let outcome = step(&method(Architecture::ResNet50, Stem::ImageNet, execution));
        outcome.gradients.iter().flat_map(|(_, gradient)| values(gradient)).collect()
    };
    assert_eq!(gradients(bf16(false, 1)), gradients(bf16(true, 1)));
    assert!(gradients(bf16(false, 2)).iter().all(|value| value.is_finite()));
}

/// Results of the bf16 backend are those of f32, rounded.
#[test]
fn a_convolution_rounds_its_result_once() {
    use equimod_core::ops::{Conv2dGeometry, ConvAlgorithms, conv2d};
    let round = |xs: &Tensor| xs.to_dtype(DType::BF16).unwrap();
    let (xs, weight) = (round(&fill("xs", &[2, 3, 9, 9], 1.0, 0.0, 1)), round(&fill("w", &[4, 3, 3, 3], 1.0, 0.0, 1)));
    let geometry =
        Conv2dGeometry { kernel: (3, 3), stride: 1, padding: 1, groups: 1, algorithms: ConvAlgorithms::DIRECT };
    let got = conv2d(&xs, &weight, &geometry).unwrap();
    assert_eq!(got.dtype(), DType::BF16);
    let wide = |xs: &Tensor| xs.to_dtype(DType::F32).unwrap();
    let want = round(&conv2d(wide(&xs), &wide(&weight), &geometry).unwrap());
    assert_eq!(values(&wide(&got)), values(&wide(&want)));
}
