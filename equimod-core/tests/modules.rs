//! Equivariance modules against finite differences and closed forms, in f64.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use common::{fill, values};
use equimod_core::equivariance::{Predictor, PredictorSpec};
use equimod_core::step::Targets;
use equimod_core::{
    BuildContext, EquivarianceConfig, EquivarianceModule, Mode, ObjectiveConfig, PairValue, ParamStore, Parameters,
    SingleProcess, StepContext, Term,
};

const IMAGES: usize = 6;
const FEATURES: usize = 6;
const STAGES: [usize; 2] = [3, 5];
const PREDICTORS: [&str; 6] = ["7 bn-", "9-7", "residual 9-7", "residual 7 bn-", "hypernetwork", "hypernetwork 5"];

/// Heads of EquiMod that are smooth enough for finite differences.
const HEADS: &str = r#""projection_head": "8-7 bn-", "parameter_head": "6 bn""#;

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 3).to_dtype(DType::F64).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Values of a crop's center, a flip, jitter with an order, and a grayscale.
fn parameters() -> Parameters {
    let value = |name: &str, augmentation: &str, reach: f32, flag: bool| PairValue {
        name: name.into(),
        augmentation: augmentation.into(),
        mean: 0.0,
        std: 0.5,
        reach,
        flag,
    };
    let pair = vec![
        value("crop_center_y", "random-resized-crop", 1.0, false),
        value("crop_center_x", "random-resized-crop", 1.0, false),
        value("horizontal_flip", "horizontal-flip", 1.0, true),
        value("jitter_applied", "color-jitter", 1.0, true),
        value("jitter_order_0", "color-jitter", 3.0, false),
        value("hue", "color-jitter", 0.2, false),
        value("brightness", "color-jitter", 0.0, false),
        value("grayscale", "grayscale", 1.0, true),
    ];
    Parameters { pair, ..Parameters::of_views(4) }
}

/// Normalized differences; flags are −1, 0 or 1 divided by their standard deviation.
fn pairs() -> Tensor {
    let parameters = parameters();
    let values = (0..2 * IMAGES).flat_map(|row| {
        let of = move |(place, value): (usize, &PairValue)| match value.flag {
            true => ((row * 7 + place * 5) % 3) as f64 - 1.0,
            false => ((row * 31 + place * 17) as f64 * 0.77).sin() * f64::from(value.reach),
        };
        parameters.pair.iter().enumerate().map(of).map(|difference| difference / 0.5).collect::<Vec<_>>()
    });
    Tensor::from_vec(values.collect(), (2 * IMAGES, parameters.pair.len()), &Device::Cpu).unwrap()
}

struct Case {
    store: ParamStore,
    module: Box<dyn EquivarianceModule>,
}

/// Inputs of a step by name: pooled features, stages, features of rotated views.
type Inputs = BTreeMap<&'static str, Tensor>;

fn inputs() -> Inputs {
    let rows = 3 * IMAGES;
    Inputs::from([
        ("pooled", random("features", &[rows, FEATURES])),
        ("stage1", random("stage1", &[rows, STAGES[0], 4, 2])),
        ("stage2", random("stage2", &[rows, STAGES[1], 2, 2])),
        ("rotated", random("rotated", &[4 * IMAGES, FEATURES])),
    ])
}

impl Case {
    /// Builds a module from its name and settings, as in recipes.
    fn new(name: &str, settings: &str) -> Self {
        Self::build(name, settings).unwrap_or_else(|e| panic!("{name} {settings}: {e}"))
    }

    fn build(name: &str, settings: &str) -> equimod_core::Result<Self> {
        let config: EquivarianceConfig = serde_json::from_str(&format!(r#"{{"{name}": {settings}}}"#)).unwrap();
        let mut store = ParamStore::new(1, DType::F64, &Device::Cpu);
        let (collective, parameters) = (SingleProcess::shared(), parameters());
        let context = BuildContext {
            features: FEATURES,
            stages: &STAGES,
            parameters: &parameters,
            collective: &collective,
            condition: None,
        };
        let module = config.build(&context, &mut store.root())?.pop().unwrap().module;
        Ok(Self { store, module })
    }

    fn term(&self, inputs: &Inputs) -> Term {
        let params = random("p", &[2 * IMAGES, 4]);
        let (pairs, collective) = (pairs(), SingleProcess::shared());
        let embeddings = random("target", &[2 * IMAGES, 7]);
        let target = Targets::new([("equivariance.equimod.projection_head", embeddings)]);
        let stages = [Some(inputs["stage1"].clone()), Some(inputs["stage2"].clone())];
        let step = StepContext {
            stages: &stages,
            rotated: Some(&inputs["rotated"]),
            params: Some(&params),
            pairs: Some(&pairs),
            target: Some(&target),
            ..StepContext::of_features(&inputs["pooled"], true, Mode::Train, &collective)
        };
        self.module.forward(&step).unwrap()
    }

    fn loss(&self, inputs: &Inputs) -> f64 {
        self.term(inputs).loss.to_scalar().unwrap()
    }
}

/// All modules in all variants, except for EquiMod's predictors.
fn forms() -> Vec<(&'static str, String)> {
    let equimod = |more: &str| ("equimod", format!(r#"{{{HEADS}, "predictor": "7 bn-"{more}}}"#));
    let mut forms = vec![
        equimod(r#", "negatives": "exclude-sibling""#),
        equimod(r#", "negatives": "decoupled""#),
        equimod(r#", "loss": "cosine""#),
        equimod(r#", "loss": "cosine-target""#),
        equimod(r#", "loss": "vicreg""#),
        equimod(r#", "tap": "stage1""#),
        ("equimod", r#"{"projection_head": "8-7 bn-", "parameter_head": "none", "predictor": "7"}"#.into()),
    ];
    for more in [r#", "start": "view""#, r#", "start": "view", "loss": "cosine-target""#] {
        forms.push(equimod(more));
    }
    forms.push(equimod(r#", "start": "view", "loss": "vicreg", "tap": "stage2""#));
    forms.extend([
        ("augself", r#"{"hidden": [5]}"#.into()),
        ("augself", r#"{"hidden": [5], "predictions": ["grayscale 0.3", "color-jitter"], "tap": "stage1"}"#.into()),
        ("essl", r#"{"hidden": 5}"#.into()),
        ("split", r#"{"projection_head": "6-4", "variance": 3.0, "covariance": 2.0}"#.into()),
        ("split", r#"{"projection_head": "4", "parameter_head": "5 bn", "predictor": "residual 4"}"#.into()),
        ("care", r#"{"chunk": 3, "projection_head": "8-5"}"#.into()),
        ("care", r#"{"chunk": 2, "projection_head": "none", "tap": "stage2"}"#.into()),
        ("stl", r#"{"code_head": "6 bn-", "projection_head": "8-5 bn-"}"#.into()),
        ("stl", r#"{"code_head": "6", "projection_head": "5", "predictor": "9-5", "tap": "stage1"}"#.into()),
    ]);
    forms
}

#[test]
fn gradients_of_every_module_agree_with_finite_differences() {
    let predictors = PREDICTORS.map(|predictor| ("equimod", format!(r#"{{{HEADS}, "predictor": "{predictor}"}}"#)));
    for (name, settings) in forms().into_iter().chain(predictors) {
        let (case, inputs) = (Case::new(name, &settings), inputs());
        let leaves: BTreeMap<_, _> = inputs.iter().map(|(n, t)| (*n, Var::from_tensor(t).unwrap())).collect();
        let on_leaves = leaves.iter().map(|(name, leaf)| (*name, leaf.as_tensor().clone())).collect();
        let gradients = case.term(&on_leaves).loss.backward().unwrap();
        let direction = |name: &str, dims: &[usize]| random(&format!("direction of {name}"), dims);
        let (mut slope, mut used) = (0.0, 0);
        for (name, leaf) in &leaves {
            if let Some(gradient) = gradients.get(leaf) {
                (slope, used) = (slope + dot(gradient, &direction(name, leaf.dims())), used + 1);
            }
        }
        assert_eq!(used, 1, "{name} {settings} takes one kind of features");
        for (parameter, slot) in case.store.trainable() {
            let gradient = gradients.get(slot.var.as_tensor());
            let gradient = gradient.unwrap_or_else(|| panic!("{name} {settings}: no gradient of {parameter}"));
            slope += dot(gradient, &direction(parameter, slot.var.dims()));
        }
        // Inputs behind a stop-gradient are constant.
        let stopped = settings.contains("\"cosine\"");
        let moved = |by: f64| -> f64 {
            let shift = |by: f64| {
                for (name, slot) in case.store.trainable() {
                    let step = (direction(name, slot.var.dims()) * by).unwrap();
                    slot.var.set(&(slot.var.as_detached_tensor() + step).unwrap()).unwrap();
                }
            };
            shift(by);
            let moved = inputs.iter().map(|(n, t)| (*n, (t + (direction(n, t.dims()) * by).unwrap()).unwrap()));
            let loss = case.loss(&moved.collect());
            shift(-by);
            loss
        };
        // Central differences have an error of about 1e-9 from rounding and curvature.
        let want = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        let off = (slope - want).abs() / want.abs().max(1e-2);
        assert!((off < 1e-6) != stopped, "{name} {settings}: {slope} {want}");
    }
}

#[test]
fn a_stop_gradient_stops() {
    // Without batch norm, which couples rows, the features of views enter only through the stopped side.
    let heads = r#"{"projection_head": "7", "parameter_head": "6", "predictor": "7", "loss": "cosine"}"#;
    let (case, mut inputs) = (Case::new("equimod", heads), inputs());
    let part = |start, rows| Var::from_tensor(&inputs["pooled"].narrow(0, start, rows).unwrap()).unwrap();
    let (clean, views) = (part(0, IMAGES), part(IMAGES, 2 * IMAGES));
    inputs.insert("pooled", Tensor::cat(&[clean.as_tensor(), views.as_tensor()], 0).unwrap());
    let gradients = case.term(&inputs).loss.backward().unwrap();
    let largest = |leaf: &Var| gradients.get(leaf).map_or(0.0, |g| values(g).iter().fold(0.0, |a, g| g.abs().max(a)));
    assert!(largest(&clean) > 1e-3 && largest(&views) == 0.0);
}

#[test]
fn closed_forms_of_modules() {
    // CARE: views whose embeddings differ by a rotation preserve all angles.
    let care = Case::new("care", r#"{"chunk": 3, "projection_head": "none"}"#);
    let mut inputs = inputs();
    let view1 = random("view1", &[IMAGES, FEATURES]);
    let rotated: Vec<Tensor> = [1, 0, 3, 2, 5, 4].iter().map(|&c| view1.narrow(1, c, 1).unwrap()).collect();
    let view2 = Tensor::cat(&rotated, 1).unwrap();
    inputs.insert("pooled", Tensor::cat(&[&view1, &view1, &view2], 0).unwrap());
    assert!(care.loss(&inputs).abs() < 1e-20);
    // One angle of 0 in view 1 is a right angle in view 2: two of the six pairs of a chunk, in one of two chunks.
    let unit = |places: [usize; IMAGES]| {
        let mut values = vec![0.0; IMAGES * FEATURES];
        places.iter().enumerate().for_each(|(row, &place)| values[row * FEATURES + place] = 2.0 + row as f64);
        Tensor::from_vec(values, (IMAGES, FEATURES), &Device::Cpu).unwrap()
    };
    let (one, other) = (unit([0, 0, 1, 2, 3, 4]), unit([0, 1, 2, 2, 3, 4]));
    inputs.insert("pooled", Tensor::cat(&[&one, &one, &other], 0).unwrap());
    assert!((care.loss(&inputs) - 2.0 / 6.0 / 2.0).abs() < 1e-12);
    // E-SSL: equal logits have the loss ln 4.
    let essl = Case::new("essl", r#"{"hidden": 5}"#);
    for name in ["essl.head.6.weight", "essl.head.6.bias"] {
        let var = &essl.store.get(name).unwrap().var;
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    assert!((essl.loss(&inputs) - 4f64.ln()).abs() < 1e-12);
    // AugSelf: for predictions of 0, the losses are the mean square of the scaled values, and ln 3 and ln 2 for flags.
    let augself = Case::new("augself", r#"{"hidden": []}"#);
    for (_, slot) in augself.store.iter() {
        slot.var.set(&slot.var.zeros_like().unwrap()).unwrap();
    }
    let differences = (pairs() * 0.5).unwrap().narrow(0, 0, IMAGES).unwrap();
    let square = |place: usize| {
        values(&differences.narrow(1, place, 1).unwrap()).iter().map(|v| v * v).sum::<f64>() / IMAGES as f64
    };
    let want = (square(0) + square(1)) / 2.0 + square(5) / 0.04 + 2f64.ln() + 3f64.ln();
    // The scale of hue is stored in f32.
    assert!((augself.loss(&inputs) - want).abs() < 1e-6, "{} {want}", augself.loss(&inputs));
    // Split: if all embeddings are 0, the distance and covariances are 0, and standard deviations are √1e-4.
    let split = Case::new("split", r#"{"projection_head": "4", "variance": 3.0, "covariance": 2.0}"#);
    for (_, slot) in split.store.iter() {
        slot.var.set(&slot.var.zeros_like().unwrap()).unwrap();
    }
    assert!((split.loss(&inputs) - 3.0 * 0.99).abs() < 1e-12);
}

/// Batches that do not divide into a module's groups are rejected, and so are unknown parts.
#[test]
fn uneven_batches_and_unknown_parts_are_refused() {
    let of = |name: &str, settings: &str| Case::build(name, settings).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(of("augself", r#"{"predictions": ["blur"]}"#).contains("color-jitter"));
    assert!(of("equimod", r#"{"tap": "stage3"}"#).contains("there is no stage 3"));
    assert!(of("split", r#"{"invariant_share": 0.01}"#).contains("without features"));
    let case = Case::new("care", r#"{"chunk": 4, "projection_head": "5"}"#);
    let (inputs, collective) = (inputs(), SingleProcess::shared());
    let step = StepContext::of_features(&inputs["pooled"], true, Mode::Train, &collective);
    assert!(case.module.forward(&step).is_err_and(|e| e.to_string().contains("multiple of 4 images")));
}

#[test]
fn what_cannot_go_together_is_told() {
    let problems = |objective: &str, modules: &str| {
        let objective: ObjectiveConfig = serde_json::from_str(&format!(r#"{{"kind": "{objective}"}}"#)).unwrap();
        let config: EquivarianceConfig = serde_json::from_str(modules).unwrap();
        config.validate(&objective).join("; ")
    };
    for (objective, modules, part) in [
        ("simclr", r#"{"conditional": {}}"#, "a predictor"),
        ("simclr", r#"{"equimod": {"loss": "cosine-target"}}"#, "target network"),
        ("byol", r#"{"equimod": {"loss": "cosine-target", "tap": "stage1"}}"#, "pooled"),
        ("simclr", r#"{"equimod": {"weight": -1}}"#, "equivariance.equimod.weight is -1"),
        ("simclr", r#"{"care": {"chunk": 1}}"#, "at least 2"),
        ("simclr", r#"{"essl": {"scale": [0.5, 0.1]}}"#, "shares of the area"),
        ("simclr", r#"{"split": {"invariant_share": 1}}"#, "less than 1"),
        ("simclr", r#"{"stl": {"predictor": "7"}}"#, "equivariance.stl.predictor is \"7\""),
        ("simclr", r#"{"split": {"predictor": "7"}}"#, "equivariance.split.predictor is \"7\""),
        ("simclr", r#"{"augself": {"hidden": [0]}}"#, "width of 0"),
        ("simclr", r#"{"augself": {"predictions": ["hue", "hue 0.5"]}}"#, "\"hue\" twice"),
    ] {
        assert!(problems(objective, modules).contains(part), "{objective} {modules}: {}", problems(objective, modules));
    }
    for objective in ObjectiveConfig::LIST.iter().map(|entry| entry.name) {
        assert_eq!(problems(objective, r#"{"equimod": {}, "augself": {}, "essl": {}, "split": {}, "care": {}}"#), "");
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
            let want = (0..3).map(|k| made(3 * d + k) * y0[3 * row + k]).sum::<f64>() / 3f64.sqrt() + made(9 + d);
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
    for text in ["64", "residual 64"] {
        let refused = Case::build("equimod", &format!(r#"{{"predictor": "{text}"}}"#));
        assert!(refused.is_err_and(|e| e.to_string().contains("128")), "{text}");
    }
}
