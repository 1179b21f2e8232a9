//! Backbones in plain candle code, in f64: gradients against the hand-written ResNet and finite differences, whole
//! methods with a target network, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder};
use common::{fill, filled_state, values};
use equimod_core::backbone::BackboneBuilder;
use equimod_core::checkpoint::to_bytes;
use equimod_core::tape::{FeatureGradients, Features};
use equimod_core::{
    AutogradBackbone, Backbone, BackboneConfig, Description, Execution, Method, MethodConfig, Mode, Model, Network,
    Normalization, ParamStore, Parameters, Placement, Preprocessing, Progress, ResNet, ResNetConfig, Result,
    SingleProcess, StepBatch, Tap,
};

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 5).to_dtype(DType::F64).unwrap()
}

/// Batch norm with batch statistics, in candle's operations.
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        // Buffers that the hand-written network has, too.
        vb.get(channels, "running_mean")?;
        vb.get_with_hints(channels, "running_var", candle_nn::init::ONE)?;
        Ok(Self { weight: vb.get(channels, "weight")?, bias: vb.get(channels, "bias")? })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let dims = (1, xs.dim(1)?, 1, 1);
        let mean = |xs: &Tensor| xs.mean_keepdim(0)?.mean_keepdim(2)?.mean_keepdim(3);
        let centered = xs.broadcast_sub(&mean(xs)?)?;
        let std = (mean(&centered.sqr()?)? + 1e-5)?.sqrt()?;
        let scaled = centered.broadcast_div(&std)?.broadcast_mul(&self.weight.reshape(dims)?)?;
        Ok(scaled.broadcast_add(&self.bias.reshape(dims)?)?)
    }
}

struct Block {
    layers: Vec<(Conv2d, Norm)>,
    shortcut: Option<(Conv2d, Norm)>,
}

fn convolution(sizes: (usize, usize), kernel: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
    Ok(candle_nn::conv2d_no_bias(sizes.0, sizes.1, kernel, config, vb)?)
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let layer = |sizes: (usize, usize), kernel: usize, stride: usize, names: [&str; 2]| -> Result<_> {
            Ok((convolution(sizes, kernel, stride, vb.pp(names[0]))?, Norm::new(outputs, vb.pp(names[1]))?))
        };
        let layers = vec![
            layer((inputs, outputs), 3, stride, ["conv1", "bn1"])?,
            layer((outputs, outputs), 3, 1, ["conv2", "bn2"])?,
        ];
        let shortcut = match inputs == outputs {
            true => None,
            false => Some(layer((inputs, outputs), 1, stride, ["downsample.0", "downsample.1"])?),
        };
        Ok(Self { layers, shortcut })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let apply = |(conv, norm): &(Conv2d, Norm), xs: &Tensor| norm.forward(&conv.forward(xs)?);
        let ys = apply(&self.layers[1], &apply(&self.layers[0], xs)?.relu()?)?;
        let residual = self.shortcut.as_ref().map_or_else(|| Ok(xs.clone()), |shortcut| apply(shortcut, xs))?;
        Ok((ys + residual)?.relu()?)
    }
}

/// A ResNet-18 with the CIFAR stem, under the parameter names of the hand-written one.
struct PlainResNet {
    stem: (Conv2d, Norm),
    stages: Vec<Vec<Block>>,
    width: usize,
}

impl PlainResNet {
    fn new(width: usize, vb: VarBuilder) -> Result<Self> {
        let stem = (convolution((3, width), 3, 1, vb.pp("conv1"))?, Norm::new(width, vb.pp("bn1"))?);
        let (mut stages, mut inputs) = (Vec::new(), width);
        for stage in 0..4 {
            let (outputs, stride) = (width << stage, if stage > 0 { 2 } else { 1 });
            let vb = vb.pp(format!("layer{}", stage + 1));
            let first = Block::new(inputs, outputs, stride, vb.pp("0"))?;
            stages.push(vec![first, Block::new(outputs, outputs, 1, vb.pp("1"))?]);
            inputs = outputs;
        }
        Ok(Self { stem, stages, width })
    }
}

impl Network for PlainResNet {
    fn forward(&self, images: &Tensor, _: Mode) -> Result<Features> {
        let mut xs = self.stem.1.forward(&self.stem.0.forward(images)?)?.relu()?;
        let mut stages = Vec::new();
        for stage in &self.stages {
            for block in stage {
                xs = block.forward(&xs)?;
            }
            stages.push(xs.clone());
        }
        Ok(Features { pooled: xs.mean((2, 3))?, stages })
    }

    fn features(&self) -> usize {
        8 * self.width
    }
}

#[test]
fn gradients_agree_with_those_of_the_hand_written_resnet() {
    const WIDTH: usize = 3;
    let mut store = ParamStore::new(0, DType::F64, &Device::Cpu);
    let config = ResNetConfig { width: WIDTH, ..Default::default() };
    let hand_written = ResNet::new(&config, Execution::default(), &SingleProcess::shared(), &mut store.root()).unwrap();
    let mut plain_store = ParamStore::new(0, DType::F64, &Device::Cpu);
    let plain = AutogradBackbone::build(&mut plain_store.root(), |vb| PlainResNet::new(WIDTH, vb)).unwrap();
    let mut counted = 0;
    for (name, slot) in store.iter().filter(|(_, slot)| slot.var.dtype().is_float()) {
        let values = filled_state(name, slot.var.shape(), 7, false).to_dtype(DType::F64).unwrap();
        slot.var.set(&values).unwrap();
        let other = plain_store.get(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(other.role, slot.role, "{name}");
        other.var.set(&values).unwrap();
        counted += 1;
    }
    assert_eq!(plain_store.iter().count(), counted);
    let images = random("images", &[3, 3, 16, 16]);
    let (features, tape) = hand_written.forward(&images, Mode::Train).unwrap();
    let (plain_features, plain_tape) = plain.forward(&images, Mode::Train).unwrap();
    near(&features.pooled, &plain_features.pooled, 1e-12, "pooled");
    near(&features.at(Tap::Stage(2)).unwrap(), &plain_features.at(Tap::Stage(2)).unwrap(), 1e-12, "stage 2");
    assert!(!plain_features.pooled.track_op());
    let gradients = || FeatureGradients {
        pooled: Some(random("d pooled", features.pooled.dims())),
        stages: vec![None, Some(random("d stage", features.stages[1].dims())), None, None],
    };
    let (want, found) = (tape.backward(gradients()).unwrap(), plain_tape.backward(gradients()).unwrap());
    let mut compared = 0;
    for (name, gradient) in want.iter() {
        near(gradient, found.get(name).unwrap_or_else(|| panic!("{name}")), 1e-10, name);
        compared += 1;
    }
    assert_eq!((compared, found.iter().count()), (60, 60));
}

/// Asserts that differences are within `tolerance` of the largest value.
fn near(want: &Tensor, found: &Tensor, tolerance: f64, name: &str) {
    let largest = |xs: &Tensor| xs.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    let error = largest(&(want - found).unwrap()) / largest(want);
    assert!(error < tolerance, "{name}: {error:e}");
}

/// Patches as tokens, and two layers that mix them; stages are `[batch, tokens, width]`.
struct Tokens {
    patches: Conv2d,
    positions: Tensor,
    mixers: Vec<(Linear, Linear)>,
}

const TOKEN_WIDTH: usize = 6;

impl Tokens {
    fn new(image_size: usize, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { stride: 4, ..Default::default() };
        let patches = candle_nn::conv2d(3, TOKEN_WIDTH, 4, config, vb.pp("patches"))?;
        let tokens = (image_size / 4).pow(2);
        let init = candle_nn::Init::Randn { mean: 0.0, stdev: 0.5 };
        let positions = vb.get_with_hints((tokens, TOKEN_WIDTH), "positions", init)?;
        let mixer = |vb: VarBuilder| -> Result<_> {
            Ok((
                candle_nn::linear(tokens, tokens, vb.pp("tokens"))?,
                candle_nn::linear(TOKEN_WIDTH, TOKEN_WIDTH, vb.pp("channels"))?,
            ))
        };
        let mixers = vec![mixer(vb.pp("mixer.0"))?, mixer(vb.pp("mixer.1"))?];
        Ok(Self { patches, positions, mixers })
    }
}

impl Network for Tokens {
    fn forward(&self, images: &Tensor, _: Mode) -> Result<Features> {
        let tokens = self.patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let mut xs = tokens.broadcast_add(&self.positions)?;
        let mut stages = Vec::new();
        for (tokens, channels) in &self.mixers {
            let mixed = tokens.forward(&xs.transpose(1, 2)?.contiguous()?)?.transpose(1, 2)?.contiguous()?;
            xs = (xs + channels.forward(&mixed.gelu_erf()?)?.gelu_erf()?)?;
            stages.push(xs.clone());
        }
        let scale = (xs.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        Ok(Features { pooled: xs.broadcast_div(&scale)?.mean(1)?, stages })
    }

    fn features(&self) -> usize {
        TOKEN_WIDTH
    }

    fn stage_widths(&self) -> Vec<usize> {
        vec![TOKEN_WIDTH; 2]
    }
}

fn builder() -> BackboneBuilder {
    Arc::new(|context, scope| AutogradBackbone::build(scope, |vb| Tokens::new(context.image_size, vb)))
}

fn config(kind: &str) -> MethodConfig {
    let byol = r#"{"kind": "byol", "projection_head": "8-4 bias", "predictor": "6-4 bias",
        "target": {"momentum": 0.75, "schedule": "constant"}}"#;
    let equimod = r#"{"projection_head": "8-4 bn-", "parameter_head": "3 bn", "predictor": "4 bn-", "tap": "stage1"}"#;
    let text = format!(r#"{{"backbone": {kind}, "objective": {byol}, "equivariance": {{"equimod": {equimod}}}}}"#);
    serde_json::from_str(&text).unwrap()
}

const CUSTOM: &str = r#"{"kind": "custom", "name": "tokens"}"#;

fn placement(device: &Device, dtype: DType, parts: usize) -> Placement<'_> {
    let (collective, execution) = (SingleProcess::shared(), Execution { parts, ..Default::default() });
    Placement { seed: 3, dtype, device, image_size: 8, collective, execution }
}

fn batch(dtype: DType) -> StepBatch {
    let images = |name: &str| random(name, &[4, 3, 8, 8]).to_dtype(dtype).unwrap();
    StepBatch {
        clean: Some(images("clean")),
        params: Some(random("params", &[8, 3]).to_dtype(dtype).unwrap()),
        ..StepBatch::of_views([images("view 1"), images("view 2")])
    }
}

fn tokens_method(dtype: DType, parts: usize) -> Method {
    let config = config(CUSTOM);
    assert_eq!(config.validate(8), [""; 0]);
    Method::with_backbone(&config, &Parameters::of_views(3), placement(&Device::Cpu, dtype, parts), builder()).unwrap()
}

#[test]
fn a_method_on_tokens_has_the_gradients_of_finite_differences() {
    for parts in [1, 2] {
        let method = tokens_method(DType::F64, parts);
        let trained = || method.params().trainable();
        let step = || method.gradients(&batch(DType::F64), Progress { step: 1, total: 4 }, Mode::Train).unwrap();
        let directions: BTreeMap<&str, Tensor> =
            trained().map(|(name, slot)| (name, random(&format!("d {name}"), slot.var.dims()))).collect();
        let gradients = step().gradients;
        // Patch embedding with bias, position embedding, two mixers of two layers with bias.
        assert_eq!(gradients.iter().filter(|(name, _)| name.starts_with("backbone.")).count(), 11);
        let slope: f64 = gradients.iter().map(|(name, g)| sum(&(g * &directions[name]).unwrap())).sum();
        let moved = |by: f64| {
            let shift = |by: f64| {
                for (name, slot) in trained() {
                    let step = (&directions[name] * by).unwrap();
                    slot.var.set(&(slot.var.as_detached_tensor() + step).unwrap()).unwrap();
                }
            };
            shift(by);
            let loss = step().read().unwrap().loss;
            shift(-by);
            loss
        };
        // Central differences; ReLUs of the heads that switch within the step add an error.
        let want = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((slope - want).abs() < 1e-5 * want.abs(), "{parts}: {slope} {want}");
    }
}

fn sum(xs: &Tensor) -> f64 {
    xs.sum_all().unwrap().to_scalar().unwrap()
}

#[test]
fn the_target_network_has_a_copy_that_follows() {
    let method = tokens_method(DType::F64, 1);
    let of = |store: &ParamStore| values(store.get("backbone.positions").unwrap().var.as_tensor());
    let target = method.target().unwrap().params();
    assert_eq!(of(target), of(method.params()));
    let positions = &method.params().get("backbone.positions").unwrap().var;
    positions.set(&(positions.as_detached_tensor() + 1.0).unwrap()).unwrap();
    method.step(&batch(DType::F64), Progress::ONLY).unwrap();
    assert!(of(target).iter().zip(of(method.params())).all(|(t, o)| (t - (o - 0.75)).abs() < 1e-12));
}

#[test]
fn a_file_with_a_custom_backbone_is_read_by_whoever_brings_the_backbone() {
    let (device, path) = (Device::Cpu, Path::new("tokens.safetensors"));
    let method = tokens_method(DType::F32, 1);
    let description = Description {
        version: "test".into(),
        method: config(CUSTOM),
        preprocessing: Preprocessing { size: 8, normalization: Normalization::CIFAR10 },
        parameters: Parameters::of_views(3),
        augmentation: serde_json::Value::Null,
        target: false,
        step: 0,
        seed: 4,
    };
    let bytes = to_bytes(&method.params().tensors(""), &serde_json::to_string(&description).unwrap()).unwrap();
    let refused = Model::from_bytes(&bytes, path, &device).err().unwrap().to_string();
    assert!(refused.contains("\"tokens\"") && refused.contains("load_with_backbone"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(path);
    std::fs::write(&file, bytes).unwrap();
    let model = Model::load_with_backbone(&file, &device, builder()).unwrap();
    let images = random("images", &[2, 3, 8, 8]).to_dtype(DType::F32).unwrap();
    let features = |backbone: &dyn Backbone| {
        values(&backbone.infer(&images, Mode::Eval).unwrap().pooled.to_dtype(DType::F64).unwrap())
    };
    let want = features(method.backbone());
    assert_eq!(features(model.backbone()), want);
    assert_eq!(features(model.backbone_copy(0).unwrap().0.as_ref()), want);
    // Another seed in the description gives other initial weights.
    assert_ne!(features(model.untrained(&device).unwrap().backbone()), want);
}

#[test]
fn a_custom_backbone_and_its_builder_come_together() {
    let build = |kind: &str, custom: Option<BackboneBuilder>| {
        let (config, parameters) = (config(kind), Parameters::of_views(3));
        let (device, dtype) = (Device::Cpu, DType::F32);
        match custom {
            Some(builder) => Method::with_backbone(&config, &parameters, placement(&device, dtype, 1), builder),
            None => Method::new(&config, &parameters, placement(&device, dtype, 1)),
        }
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    assert_eq!(build(CUSTOM, Some(builder())), Ok(()));
    assert!(build(CUSTOM, None).unwrap_err().contains("\"tokens\""));
    assert!(build(r#"{"width": 2}"#, Some(builder())).unwrap_err().contains("kind = \"custom\""));
}

#[test]
fn settings_without_a_kind_are_those_of_a_resnet() {
    let read = |text: &str| serde_json::from_str::<BackboneConfig>(text);
    let old = r#"{"architecture": "resnet50", "stem": "imagenet", "width": 32}"#;
    let config = read(old).unwrap();
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(written, old.replacen('{', r#"{"kind":"resnet","#, 1).replace(": ", ":").replace(", ", ","));
    assert_eq!(read(&written).unwrap(), config);
    assert_eq!(config.settings().library_name(), None);
    assert_eq!(config.settings().describe(), "resnet50, ImageNet stem, width 32");
    let standard = read(&old.replace("32", "64")).unwrap();
    assert_eq!(standard.settings().library_name().map(|known| known.name), Some("resnet50"));
    assert_eq!(standard.settings().default_preprocessing().size, 224);
    let unknown = read(r#"{"kind": "vit"}"#).unwrap_err().to_string();
    assert!(unknown.contains("vit") && unknown.contains("resnet") && unknown.contains("custom"), "{unknown}");
    assert!(read(r#"{"widht": 4}"#).unwrap_err().to_string().contains("widht"));
    assert!(read(r#"{"kind": 3}"#).unwrap_err().to_string().contains("resnet"));
}
