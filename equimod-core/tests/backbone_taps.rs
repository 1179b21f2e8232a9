//! Gradients that enter a backbone at its tapped stages, against finite differences.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{fill, filled_state};
use equimod_core::collective::SingleProcess;
use equimod_core::nn::Mode;
use equimod_core::tape::{FeatureGradients, Features};
use equimod_core::{Architecture, Backbone, Execution, ParamStore, ResNet, ResNetConfig, Stem};

/// A small network in f64, and random weights for the loss `Σ features·weights` over the tapped features.
struct Case {
    store: ParamStore,
    net: ResNet,
    images: Tensor,
    pooled: bool,
    taps: Vec<usize>,
}

impl Case {
    fn new(config: ResNetConfig, execution: Execution, pooled: bool, taps: Vec<usize>) -> Self {
        let mut store = ParamStore::new(0, DType::F64, &Device::Cpu);
        let net = ResNet::new(&config, execution, &SingleProcess::shared(), &mut store.root()).unwrap();
        for (name, slot) in store.iter() {
            let values = filled_state(name, slot.var.shape(), 7, config.architecture.expansion() == 4);
            slot.var.set(&values.to_dtype(slot.var.dtype()).unwrap()).unwrap();
        }
        // At 16 pixels, batch norm after an average-pooled shortcut would see values too close to each other.
        let size = if config.average_shortcut { 48 } else { 16 };
        let images = random("images", &[3, 3, size, size]);
        Self { store, net, images, pooled, taps }
    }

    /// Gradients of the loss with respect to the features, which are its random weights.
    fn weights(&self, features: &Features) -> FeatureGradients {
        let of = |(stage, xs): (usize, &Tensor)| {
            self.taps.contains(&stage).then(|| random(&format!("stage {stage}"), xs.dims()))
        };
        FeatureGradients {
            pooled: self.pooled.then(|| random("pooled", features.pooled.dims())),
            stages: features.stages.iter().enumerate().map(of).collect(),
        }
    }

    fn loss(&self) -> f64 {
        let (features, _) = self.net.forward(&self.images, Mode::Train).unwrap();
        let weights = self.weights(&features);
        let pairs = features.stages.iter().zip(&weights.stages).chain([(&features.pooled, &weights.pooled)]);
        pairs.filter_map(|(xs, weights)| Some(dot(xs, weights.as_ref()?))).sum()
    }

    /// The loss with every parameter shifted by `by` times its random direction.
    fn moved(&self, by: f64) -> f64 {
        let shift = |by: f64| {
            for (name, slot) in self.store.trainable() {
                let values = slot.var.as_detached_tensor().copy().unwrap();
                slot.var.set(&(values + (random(name, slot.var.dims()) * by).unwrap()).unwrap()).unwrap();
            }
        };
        shift(by);
        let loss = self.loss();
        shift(-by);
        loss
    }

    fn slope(&self) -> f64 {
        let (features, tape) = self.net.forward(&self.images, Mode::Train).unwrap();
        let gradients = tape.backward(self.weights(&features)).unwrap();
        gradients.iter().map(|(name, gradient)| dot(gradient, &random(name, gradient.dims()))).sum()
    }
}

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 5).to_dtype(DType::F64).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

#[test]
fn gradients_may_enter_at_any_stage() {
    let config = |architecture, stem| ResNetConfig { architecture, stem, width: 3, ..Default::default() };
    let (small, deep) = (config(Architecture::ResNet18, Stem::Cifar), config(Architecture::ResNet50, Stem::Deep));
    let networks = [
        small.clone(),
        config(Architecture::ResNet50, Stem::ImageNet),
        // Variants of other codebases: solo-learn, lightly (also with a max-pool), timm and torchvision.
        ResNetConfig { stem_padding: Some(2), ..small.clone() },
        ResNetConfig { stem_relu: false, ..small.clone() },
        ResNetConfig { stem_relu: false, max_pool: Some(true), ..small.clone() },
        ResNetConfig { stem_relu: false, average_shortcut: true, ..small },
        ResNetConfig { architecture: Architecture::ResNet18, stem_widths: Some([2, 3, 4]), ..deep.clone() },
        ResNetConfig { average_shortcut: true, ..config(Architecture::ResNet50, Stem::ImageNet) },
        ResNetConfig { average_shortcut: true, ..deep.clone() },
        ResNetConfig { groups: 2, width_per_group: 32, max_pool: Some(false), ..deep },
    ];
    let taps = [(false, vec![0]), (true, vec![1]), (true, vec![0, 2, 3]), (false, vec![3])];
    for (config, (pooled, taps)) in networks.iter().flat_map(|n| taps.iter().map(move |t| (n, t.clone()))) {
        for recompute in [false, true] {
            let execution = Execution { recompute, ..Default::default() };
            let case = Case::new(config.clone(), execution, pooled, taps.clone());
            // Central differences have an error of about 1e-7 of the slope, except for ReLUs that switch between the
            // two points.
            let step = 1e-7;
            let (slope, want) = (case.slope(), (case.moved(step) - case.moved(-step)) / (2.0 * step));
            let error = (slope - want).abs() / want.abs();
            assert!(error < 1e-5, "{config} pooled {pooled}, stages {taps:?}: {slope} {want} ({error:e})");
        }
    }
}
