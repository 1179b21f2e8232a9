//! ResNets against the reference: forward pass in both modes, running statistics, gradients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{Golden, device, files, fill, filled_state, values};
use equimod_core::collective::SingleProcess;
use equimod_core::nn::{BatchNorm, Conv2d, Conv2dConfig, Epilogue, Mode};
use equimod_core::ops::ConvAlgorithms;
use equimod_core::params::Init;
use equimod_core::tape::FeatureGradients;
use equimod_core::{Architecture, Backbone, Execution, ParamStore, ResNet, ResNetConfig, Stem};

/// A network of the reference with its weights and inputs.
struct Case {
    golden: Golden,
    config: ResNetConfig,
    seed: u64,
    dtype: DType,
    store: ParamStore,
    net: ResNet,
}

impl Case {
    fn open(file: &str, dtype: DType, winograd: bool) -> Self {
        let golden = Golden::open(file).unwrap();
        let architecture = Architecture::ALL.into_iter().find(|a| a.name() == golden.meta("arch")).unwrap();
        let stem = if golden.meta("cifar_stem") == "true" { Stem::Cifar } else { Stem::ImageNet };
        let width = golden.meta("base_width").parse().unwrap();
        let config = ResNetConfig { architecture, stem, width, ..Default::default() };
        let seed = golden.meta("fill_seed").parse().unwrap();
        let execution = Execution { winograd, ..Default::default() };
        let mut store = ParamStore::new(0, dtype, device(dtype));
        let net = ResNet::new(&config, execution, &SingleProcess::shared(), &mut store.root()).unwrap();
        for (name, slot) in store.iter() {
            let stored = format!("state/{name}");
            let values = match golden.has(&stored) {
                true => golden.get(&stored).reshape(slot.var.shape()).unwrap(),
                false => filled_state(&format!("resnet.{name}"), slot.var.shape(), seed, architecture.expansion() == 4),
            };
            let values = values.to_dtype(slot.var.dtype()).unwrap().to_device(slot.var.device()).unwrap();
            slot.var.set(&values).unwrap();
        }
        Self { golden, config, seed, dtype, store, net }
    }

    fn tensor(&self, stored: &str, shape: &[usize], scale: f64) -> Tensor {
        let tensor = match self.golden.has(stored) {
            true => self.golden.get(stored).clone(),
            false => fill(stored, shape, scale, 0.0, self.seed),
        };
        tensor.to_dtype(self.dtype).unwrap().to_device(device(self.dtype)).unwrap()
    }

    fn check_all(&self) {
        let shape: Vec<usize> = serde_json::from_str(self.golden.meta("input_shape")).unwrap();
        let input = self.tensor("input", &shape, 2.0);
        self.golden.check("h_eval", &self.net.infer(&input, Mode::Eval).unwrap().pooled);
        self.check_stem(&input);
        let (features, tape) = self.net.forward(&input, Mode::Train).unwrap();
        self.golden.check("h_train", &features.pooled);
        for (i, stage) in features.stages.iter().enumerate() {
            self.check_activation(&format!("layer{}", i + 1), stage);
        }
        for (name, slot) in self.store.iter() {
            let name = format!("after_train_forward/{name}");
            if self.golden.has(&name) && !name.ends_with("num_batches_tracked") {
                self.golden.check(&name, slot.var.as_tensor());
            }
        }
        // loss = Σ h·r / B
        let weights = self.tensor("loss_weights", features.pooled.dims(), 1.0);
        let batch = shape[0] as f64;
        let loss = ((features.pooled * &weights).unwrap().sum_all().unwrap() / batch).unwrap();
        self.golden.check("loss", &loss.reshape(1).unwrap());
        let pooled = Some((weights / batch).unwrap());
        let gradients = tape.backward(FeatureGradients { pooled, stages: Vec::new() }).unwrap();
        let names = self.golden.meta_list("param_names");
        let (mut norms, mut probes) = (Vec::new(), Vec::new());
        for name in &names {
            let gradient = gradients.get(name).unwrap();
            assert_eq!(gradient.dims(), self.store.get(name).unwrap().var.dims());
            let stored = format!("grad/{name}");
            if self.golden.has(&stored) {
                self.golden.check(&stored, gradient);
            }
            let probe = fill(&format!("{name}.probe"), gradient.shape(), 1.0, 0.0, self.seed);
            let (gradient, probe) = (values(gradient), values(&probe));
            norms.push(gradient.iter().map(|g| g * g).sum::<f64>().sqrt());
            probes.push(gradient.iter().zip(&probe).map(|(g, p)| g * p).sum::<f64>());
        }
        for (name, got) in [("grad_norms", norms), ("grad_probes", probes)] {
            self.golden.check(name, &Tensor::new(got, &Device::Cpu).unwrap().to_dtype(self.dtype).unwrap());
        }
    }

    /// Output of the first batch norm before the ReLU, computed by the layers themselves.
    fn check_stem(&self, input: &Tensor) {
        let (kernel, stride, padding) = if self.config.stem == Stem::Cifar { (3, 1, 1) } else { (7, 2, 3) };
        let (width, init) = (self.config.width, Init::KaimingNormalFanOut);
        let (groups, algorithms) = (1, ConvAlgorithms::DIRECT);
        let config =
            Conv2dConfig { in_channels: 3, out_channels: width, kernel, stride, padding, groups, algorithms, init };
        let mut store = ParamStore::new(0, self.dtype, device(self.dtype));
        let conv = Conv2d::new(&config, &mut store.root().scope("conv1")).unwrap();
        let norm = BatchNorm::new(width, 1.0, &SingleProcess::shared(), &mut store.root().scope("bn1")).unwrap();
        for (name, slot) in store.iter() {
            slot.var.set(self.store.get(name).unwrap().var.as_tensor()).unwrap();
        }
        let ys = conv.forward(input, &conv.prepared_weight(self.dtype).unwrap()).unwrap();
        self.check_activation("bn1", &norm.forward(ys, None, Epilogue::Identity, Mode::Train).unwrap().0.values);
    }

    fn check_activation(&self, name: &str, activation: &Tensor) {
        let norm = activation.sqr().unwrap().to_dtype(DType::F64).unwrap().sum_all().unwrap().sqrt().unwrap();
        let means = activation.transpose(0, 1).unwrap().flatten_from(1).unwrap().mean(1).unwrap();
        self.golden.check(&format!("act_train/{name}/l2norm"), &norm.reshape(1).unwrap().to_dtype(self.dtype).unwrap());
        self.golden.check(&format!("act_train/{name}/mean_per_channel"), &means);
    }
}

fn networks(narrow: bool) -> Vec<String> {
    files("net_", ".safetensors").into_iter().filter(|n| n.contains("_w") == narrow).collect()
}

#[test]
fn golden_narrow_networks_in_f32() {
    for (file, winograd) in networks(true).iter().flat_map(|file| [(file, false), (file, true)]) {
        Case::open(file, DType::F32, winograd).check_all();
    }
}

#[test]
fn golden_narrow_networks_in_f64() {
    for file in networks(true) {
        Case::open(&file, DType::F64, false).check_all();
    }
}

#[test]
fn golden_full_networks_in_f32() {
    for (file, winograd) in networks(false).iter().flat_map(|file| [(file, false), (file, true)]) {
        Case::open(file, DType::F32, winograd).check_all();
    }
}

#[test]
fn golden_full_networks_in_f64() {
    for file in networks(false) {
        Case::open(&file, DType::F64, false).check_all();
    }
}
