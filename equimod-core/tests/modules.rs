//! Equivariance modules against finite differences and closed forms, in f64.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{fill, values};
use equimod_core::equivariance::{EquiMod, EquiModConfig, Predictor, PredictorSpec};
use equimod_core::tape::Features;
use equimod_core::{EquivarianceModule, Mode, ParamStore, SingleProcess, StepContext};

const IMAGES: usize = 5;
const FEATURES: usize = 6;
const PARAMETERS: usize = 4;
const PREDICTORS: [&str; 6] = ["7 bn-", "9-7", "residual 9-7", "residual 7 bn-", "hypernetwork", "hypernetwork 5"];

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 3).to_dtype(DType::F64).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

struct Case {
    store: ParamStore,
    module: EquiMod,
}

impl Case {
    fn new(predictor: &str) -> Self {
        let config = EquiModConfig {
            projection_head: "8-7 bn-".parse().unwrap(),
            parameter_head: "6 bn".parse().unwrap(),
            predictor: predictor.parse().unwrap(),
            ..Default::default()
        };
        let mut store = ParamStore::new(1, DType::F64, &Device::Cpu);
        let collective = SingleProcess::shared();
        let module = EquiMod::new(&config, FEATURES, PARAMETERS, &collective, &mut store.root()).unwrap();
        Self { store, module }
    }

    fn loss(&self, features: &Tensor, params: &Tensor) -> Tensor {
        let features = Features { pooled: features.clone(), stages: Vec::new() };
        let step = StepContext {
            features: &features,
            has_clean: true,
            params: Some(params),
            mode: Mode::Train,
            collective: &SingleProcess::shared(),
        };
        self.module.forward(&step).unwrap().loss
    }
}

#[test]
fn gradients_of_every_predictor_agree_with_finite_differences() {
    for predictor in PREDICTORS {
        let case = Case::new(predictor);
        let (features, params) = (random("features", &[3 * IMAGES, FEATURES]), random("p", &[2 * IMAGES, PARAMETERS]));
        let leaf = Var::from_tensor(&features).unwrap();
        let gradients = case.loss(&leaf, &params).backward().unwrap();
        let direction = |name: &str, dims: &[usize]| random(&format!("direction of {name}"), dims);
        let mut slope = dot(gradients.get(&leaf).unwrap(), &direction("features", features.dims()));
        for (name, slot) in case.store.trainable() {
            let gradient = gradients.get(slot.var.as_tensor()).unwrap_or_else(|| panic!("{predictor}: {name}"));
            slope += dot(gradient, &direction(name, slot.var.dims()));
        }
        let moved = |by: f64| -> f64 {
            let shift = |by: f64| {
                for (name, slot) in case.store.trainable() {
                    let step = (direction(name, slot.var.dims()) * by).unwrap();
                    slot.var.set(&(slot.var.as_detached_tensor() + step).unwrap()).unwrap();
                }
            };
            shift(by);
            let features = (&features + (direction("features", features.dims()) * by).unwrap()).unwrap();
            let loss = case.loss(&features, &params).to_scalar().unwrap();
            shift(-by);
            loss
        };
        // Central differences: an error of about 1e-9 from rounding and curvature.
        let want = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((slope - want).abs() < 1e-6 * want.abs().max(1e-2), "{predictor}: {slope} {want}");
    }
}

#[test]
fn predictors_do_what_their_formulas_say() {
    let (y0, p) = (random("y0", &[4, 3]), random("p", &[4, 2]));
    let built = |text: &str| {
        let mut store = ParamStore::new(2, DType::F64, &Device::Cpu);
        let spec: PredictorSpec = text.parse().unwrap();
        let predictor = Predictor::new(&spec, (3, 2), &SingleProcess::shared(), &mut store.root()).unwrap();
        (values(&predictor.forward(&y0, &p, Mode::Train).unwrap()), store)
    };
    let (head, _) = built("5-3");
    let (residual, _) = built("residual 5-3");
    for ((residual, head), y0) in residual.iter().zip(&head).zip(values(&y0)) {
        assert!((residual - head - y0).abs() < 1e-15);
    }
    let (predicted, store) = built("hypernetwork");
    let (weight, bias) = (store.get("0.weight").unwrap(), store.get("0.bias").unwrap());
    let (weight, bias) = (values(weight.var.as_tensor()), values(bias.var.as_tensor()));
    let (y0, p) = (values(&y0), values(&p));
    for row in 0..4 {
        let made = |i: usize| bias[i] + weight[2 * i] * p[2 * row] + weight[2 * i + 1] * p[2 * row + 1];
        for d in 0..3 {
            let want = (0..3).map(|k| made(3 * d + k) * y0[3 * row + k]).sum::<f64>() + made(9 + d);
            assert!((predicted[3 * row + d] - want).abs() < 1e-14);
        }
    }
}

#[test]
fn predictors_are_written_as_they_are_read() {
    for text in PREDICTORS {
        assert_eq!(text.parse::<PredictorSpec>().unwrap().to_string(), text);
    }
    for text in ["", "residual", "residual hypernetwork", "hypernetwork 5 bn", "hypernetwork none", "7 bm-"] {
        assert!(text.parse::<PredictorSpec>().unwrap_err().contains("is no predictor"), "{text}");
    }
    let config = |text: &str| EquiModConfig { predictor: text.parse().unwrap(), ..Default::default() };
    let build = |text: &str| {
        let mut store = ParamStore::new(1, DType::F64, &Device::Cpu);
        EquiMod::new(&config(text), FEATURES, PARAMETERS, &SingleProcess::shared(), &mut store.root())
    };
    for text in ["64", "residual 64", "none"] {
        assert!(build(text).is_err_and(|e| e.to_string().contains("128")), "{text}");
    }
}
