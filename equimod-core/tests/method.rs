//! Whole methods in f64: gradients against finite differences, the matched baseline, the target network, names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{fill, values};
use equimod_core::equivariance::SmallView;
use equimod_core::optim::Weight;
use equimod_core::params::{Scope, Slot};
use equimod_core::{
    BuildContext, EquivarianceModule, Execution, Method, MethodConfig, NamedModule, Needs, PairValue, ParamStore,
    Parameters, Placement, Progress, SingleProcess, StepBatch, StepContext, StepOutcome, Term,
};

const IMAGES: usize = 4;
const EQUIMOD: &str = r#"{"projection_head": "8-4 bn-", "parameter_head": "3 bn", "predictor": "4 bn-"}"#;
const BYOL: &str = r#"{"kind": "byol", "projection_head": "8-4 bias", "predictor": "6-4 bias",
    "target": {"momentum": 1.0, "schedule": "constant"}}"#;
const SIMCLR: &str = r#"{"kind": "simclr", "projection_head": "8-4 bn-"}"#;

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 5).to_dtype(DType::F64).unwrap()
}

fn parameters() -> Parameters {
    let value = |name: &str, augmentation: &str, flag: bool| PairValue {
        name: name.into(),
        augmentation: augmentation.into(),
        mean: 0.0,
        std: 1.0,
        reach: 1.0,
        flag,
    };
    let pair = vec![value("hue", "color-jitter", false), value("flip", "horizontal-flip", true)];
    Parameters { pair, ..Parameters::of_views(3) }
}

fn method(objective: &str, modules: &str) -> Method {
    let text = format!(r#"{{"backbone": {{"width": 2}}, "objective": {objective}, "equivariance": {modules}}}"#);
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    assert_eq!(config.validate(8), [""; 0], "{text}");
    let (collective, device, execution) = (SingleProcess::shared(), &Device::Cpu, Execution::default());
    let placement = Placement { seed: 3, dtype: DType::F64, device, image_size: 8, collective, execution };
    let method = Method::new(&config, &parameters(), placement).unwrap();
    // Residual branches with nonzero scale, and a target network that differs from the online one.
    for (name, slot) in method.params().iter().filter(|(name, _)| name.ends_with("bn2.weight")) {
        slot.var.set(&random(name, slot.var.dims()).affine(0.3, 0.7).unwrap()).unwrap();
    }
    for (name, slot) in method.target().iter().flat_map(|target| target.params().trainable()) {
        slot.var
            .set(&(slot.var.as_detached_tensor() + (random(name, slot.var.dims()) * 0.1).unwrap()).unwrap())
            .unwrap();
    }
    method
}

fn batch(clean: bool) -> StepBatch {
    let images = |name: &str, side: usize| random(name, &[IMAGES, 3, side, side]);
    let flags: Vec<f64> = (0..2 * IMAGES).flat_map(|row| [(row as f64 * 0.7).sin(), (row % 3) as f64 - 1.0]).collect();
    StepBatch {
        clean: clean.then(|| images("clean", 8)),
        small: Some(images("small", 6)),
        params: Some(random("params", &[2 * IMAGES, 3])),
        pairs: Some(Tensor::from_vec(flags, (2 * IMAGES, 2), &Device::Cpu).unwrap()),
        ..StepBatch::of_views([images("view 1", 8), images("view 2", 8)])
    }
}

fn step(method: &Method) -> StepOutcome {
    let needs = method.needs();
    let mut batch = batch(needs.clean_view);
    batch.small = batch.small.filter(|_| needs.small.is_some());
    method.step(&batch, Progress { step: 1, total: 4 }).unwrap()
}

#[test]
fn gradients_of_whole_methods_agree_with_finite_differences() {
    let equimod = format!(r#"{{"equimod": {EQUIMOD}}}"#);
    let tapped =
        format!(r#"{{"equimod": {}}}"#, EQUIMOD.replacen('{', r#"{"tap": "stage2", "weight": "2 to 0 until 1", "#, 1));
    let moco = r#"{"kind": "moco-v3", "projection_head": "8-4 bn-", "predictor": "6-4",
        "target": {"momentum": 1.0, "schedule": "constant", "buffers": "copy"}}"#;
    let cases = [
        (BYOL, equimod.as_str()),
        (BYOL, r#"{"conditional": {"parameter_head": "3 bn"}}"#),
        (moco, r#"{"augself": {"hidden": [5], "tap": "stage3"}}"#),
        (r#"{"kind": "none"}"#, tapped.as_str()),
        (SIMCLR, r#"{"split": {"projection_head": "6-4"}, "essl": {"hidden": 5, "size": 6}}"#),
    ];
    for (objective, modules) in cases {
        let method = method(objective, modules);
        let trained = || method.params().trainable();
        let directions: Vec<Tensor> =
            trained().map(|(name, slot)| random(&format!("d {name}"), slot.var.dims())).collect();
        let gradients = step(&method).gradients;
        let slope = trained().zip(&directions).map(|((name, _), direction)| {
            // Parameters that do not affect the loss have no gradient.
            gradients.get(name).map_or(0.0, |g| (g * direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap())
        });
        let slope: f64 = slope.sum();
        let moved = |by: f64| {
            let shift = |by: f64| {
                for ((_, Slot { var, .. }), direction) in trained().zip(&directions) {
                    var.set(&(var.as_detached_tensor() + (direction * by).unwrap()).unwrap()).unwrap();
                }
            };
            shift(by);
            let loss = step(&method).read().unwrap().loss;
            shift(-by);
            loss
        };
        // ReLUs that switch within the step add an error.
        let want = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((slope - want).abs() < 1e-4 * want.abs().max(1e-2), "{objective} {modules}: {slope} {want}");
    }
}

/// λ = 0, the original images in the batch: the same gradients as the plain objective's on that batch, bit for bit.
#[test]
fn a_weight_of_zero_is_the_matched_baseline() {
    for objective in [SIMCLR, BYOL] {
        let zero = EQUIMOD.replacen('{', r#"{"weight": 0, "#, 1);
        let (with, plain) = (method(objective, &format!(r#"{{"equimod": {zero}}}"#)), method(objective, "{}"));
        let of = |method: &Method| method.step(&StepBatch { small: None, ..batch(true) }, Progress::ONLY).unwrap();
        let (with, plain) = (of(&with), of(&plain));
        assert_eq!(with.read().unwrap().loss, plain.read().unwrap().loss);
        let mut compared = 0;
        for (name, gradient) in plain.gradients.iter() {
            assert_eq!(values(with.gradients.get(name).unwrap()), values(gradient), "{name}");
            compared += 1;
        }
        assert!(compared > 60, "{compared}");
    }
}

/// `θ_target ← τ·θ_target + (1 − τ)·θ`, and running statistics by the setting.
#[test]
fn the_target_network_follows() {
    for buffers in ["own", "copy", "ema"] {
        let target = format!(r#""target": {{"momentum": 0.75, "schedule": "constant", "buffers": "{buffers}"}}"#);
        let objective =
            format!(r#"{{"kind": "byol", "projection_head": "8-4 bias", "predictor": "6-4 bias", {target}}}"#);
        let method = method(&objective, "{}");
        let store = |store: &ParamStore| -> std::collections::BTreeMap<String, Vec<f64>> {
            store.iter().map(|(name, slot)| (name.to_owned(), values(slot.var.as_tensor()))).collect()
        };
        // A first step makes running statistics differ; the second one is checked.
        method.step(&StepBatch::of_views(batch(false).views), Progress::ONLY).unwrap();
        let (online, before) = (store(method.params()), store(method.target().unwrap().params()));
        let moved = method.step(&StepBatch::of_views(batch(false).views), Progress::ONLY).unwrap();
        assert_eq!(moved.read().unwrap().metric("target_momentum"), Some(0.75));
        for (name, after) in store(method.target().unwrap().params()) {
            let kept = match (name.contains("running"), name.contains("num_batches"), buffers) {
                (false, false, _) | (true, _, "ema") => Some(0.75),
                (_, true, "own") | (true, _, "own") => None,
                _ => Some(0.0),
            };
            let mixed =
                |kept: f64| before[&name].iter().zip(&online[&name]).map(move |(t, o)| kept * t + (1.0 - kept) * o);
            match kept {
                Some(kept) => {
                    assert!(after.iter().zip(mixed(kept)).all(|(a, b)| (a - b).abs() < 1e-14), "{buffers} {name}")
                }
                // They are updated from the target network's own batches.
                None => assert_ne!(after, before[&name], "{buffers} {name}"),
            }
        }
    }
}

#[test]
fn names_and_counts_are_those_of_the_reference_and_stay() {
    let names = |objective: &str, modules: &str, prefix: &str| -> Vec<String> {
        let method = method(objective, modules);
        let strip =
            |(name, slot): (&str, &Slot)| name.strip_prefix(prefix).map(|rest| format!("{rest} {:?}", slot.var.dims()));
        method.params().trainable().filter_map(strip).collect()
    };
    let equimod = format!(r#"{{"equimod": {EQUIMOD}}}"#);
    assert_eq!(
        names(BYOL, &equimod, "objective."),
        [
            "predictor.0.weight [6, 4]",
            "predictor.1.bias [6]",
            "predictor.1.weight [6]",
            "predictor.3.bias [4]",
            "predictor.3.weight [4, 6]",
            "projection_head.0.weight [8, 16]",
            "projection_head.1.bias [8]",
            "projection_head.1.weight [8]",
            "projection_head.3.bias [4]",
            "projection_head.3.weight [4, 8]",
        ]
    );
    assert_eq!(
        names(BYOL, &equimod, "equivariance.equimod."),
        [
            "parameter_head.0.weight [3, 3]",
            "parameter_head.1.bias [3]",
            "parameter_head.1.weight [3]",
            "predictor.0.weight [4, 7]",
            "projection_head.0.weight [8, 16]",
            "projection_head.1.bias [8]",
            "projection_head.1.weight [8]",
            "projection_head.3.weight [4, 8]",
        ]
    );
    let conditional = names(BYOL, r#"{"conditional": {"parameter_head": "3 bn"}}"#, "objective.");
    assert!(
        conditional.contains(&"condition.0.weight [3, 2]".into())
            && conditional.contains(&"predictor.0.weight [6, 7]".into())
    );
    assert_eq!(
        names(SIMCLR, r#"{"augself": {"hidden": []}}"#, "equivariance.augself."),
        [
            "colour-jitter.0.bias [1]",
            "colour-jitter.0.weight [1, 32]",
            "horizontal-flip.0.bias [2]",
            "horizontal-flip.0.weight [2, 32]"
        ]
    );
    assert_eq!(
        names(SIMCLR, r#"{"essl": {"hidden": 5}}"#, "equivariance.essl.head."),
        [
            "0.bias [5]",
            "0.weight [5, 16]",
            "1.bias [5]",
            "1.weight [5]",
            "3.bias [5]",
            "3.weight [5, 5]",
            "4.bias [5]",
            "4.weight [5]",
            "6.bias [4]",
            "6.weight [4, 5]",
        ]
    );
    // The hypernetwork computes a 4×4 matrix and an offset from two differences; objective and module split the
    // features.
    let split = r#"{"split": {"projection_head": "4"}}"#;
    assert_eq!(
        names(SIMCLR, split, "equivariance.split."),
        ["predictor.0.bias [20]", "predictor.0.weight [20, 2]", "projection_head.0.weight [4, 8]"]
    );
    assert_eq!(names(SIMCLR, split, "objective.projection_head.0."), ["weight [8, 8]"]);
    assert_eq!(
        names(SIMCLR, r#"{"care": {"projection_head": "4"}}"#, "equivariance.care."),
        ["projection_head.0.weight [4, 16]"]
    );
    assert_eq!(
        names(SIMCLR, r#"{"stl": {"projection_head": "4", "code_head": "3", "predictor": "4"}}"#, "equivariance.stl."),
        ["code_head.0.weight [3, 32]", "predictor.0.weight [4, 7]", "projection_head.0.weight [4, 16]"]
    );
}

/// An external module with given needs and no loss.
struct Idle(Needs);

impl EquivarianceModule for Idle {
    fn needs(&self) -> Needs {
        self.0.clone()
    }

    fn forward(&self, step: &StepContext) -> equimod_core::Result<Term> {
        Ok(Term { loss: step.pooled.sum_all()?.affine(0.0, 0.0)?, metrics: Vec::new() })
    }
}

#[test]
fn modules_that_do_not_fit_together_are_refused_by_name() {
    let build = |modules: [(&str, Needs); 2]| {
        let config: MethodConfig =
            serde_json::from_str(&format!(r#"{{"backbone": {{"width": 2}}, "objective": {SIMCLR}}}"#)).unwrap();
        let (collective, device, execution) = (SingleProcess::shared(), &Device::Cpu, Execution::default());
        let placement = Placement { seed: 3, dtype: DType::F64, device, image_size: 8, collective, execution };
        let more = |_: &BuildContext, _: &mut Scope| {
            let named = |(name, needs): &(&str, Needs)| NamedModule {
                name: (*name).into(),
                weight: Weight::Fixed(1.0),
                module: Box::new(Idle(needs.clone())),
            };
            Ok(modules.iter().map(named).collect())
        };
        Method::with_modules(&config, &parameters(), placement, &more).map(|_| ()).map_err(|e| e.to_string())
    };
    let shared = |by: usize| Needs { shared_by: Some(by), ..Needs::default() };
    let small = |size: usize| Needs { small: Some(SmallView { size, scale: (0.1, 0.2) }), ..Needs::default() };
    assert_eq!(build([("a", shared(2)), ("b", shared(2))]), Ok(()));
    assert!(build([("a", shared(2)), ("a", shared(2))]).unwrap_err().contains("two modules called a"));
    assert!(build([("a", shared(2)), ("b", shared(4))]).unwrap_err().contains("a and b share augmentations"));
    assert!(build([("a", small(8)), ("b", small(6))]).unwrap_err().contains("a and b need different small views"));
    assert_eq!(build([("a", small(8)), ("b", shared(4))]), Ok(()));
}

#[test]
fn small_views_are_turned_against_the_clock() {
    let image = Tensor::new(&[[[[1.0, 2.0], [3.0, 4.0f64]]]], &Device::Cpu).unwrap().repeat((1, 3, 1, 1)).unwrap();
    let batch = StepBatch { small: Some(image), ..batch(false) };
    let rotated = batch.rotated().unwrap().unwrap();
    let first_channel = |turn: usize| values(&rotated.narrow(0, turn, 1).unwrap().narrow(1, 0, 1).unwrap());
    let want = [[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 1.0, 3.0], [4.0, 3.0, 2.0, 1.0], [3.0, 1.0, 4.0, 2.0]];
    for (turn, want) in want.iter().enumerate() {
        assert_eq!(first_channel(turn), want);
    }
}
