//! Every objective and every equivariance module, small.

use candle_core::{DType, Device, Tensor};
use equimod_core::{
    EquivarianceConfig, Execution, Method, MethodConfig, ObjectiveConfig, PairValue, Parameters, Placement,
    SingleProcess, StepBatch,
};

use super::fill;

/// Number of images of a batch, and their side.
pub const IMAGES: usize = 4;
pub const SIDE: usize = 8;

/// Every objective, with small heads.
pub const OBJECTIVES: [&str; 7] = [
    r#"{"kind": "simclr", "projection_head": "16-8 bn-"}"#,
    r#"{"kind": "byol", "projection_head": "16-8 bias", "predictor": "6-8 bias"}"#,
    r#"{"kind": "barlow-twins", "projection_head": "16-8"}"#,
    r#"{"kind": "vicreg", "projection_head": "16-8"}"#,
    r#"{"kind": "simsiam", "projection_head": "16-8 bn-", "predictor": "6-8 bias"}"#,
    r#"{"kind": "moco-v3", "projection_head": "16-8 bn-", "predictor": "6-8"}"#,
    r#"{"kind": "none"}"#,
];

/// EquiMod as published, with small heads.
pub const EQUIMOD: &str =
    r#"{"equimod": {"projection_head": "16-8 bn-", "parameter_head": "6 bn", "predictor": "8 bn-"}}"#;

/// The other modules, and variants of EquiMod; BYOL supports all of them.
pub const MODULES: [&str; 8] = [
    r#"{"equimod": {"projection_head": "8", "parameter_head": "6", "predictor": "8",
        "loss": "vicreg", "start": "view"}}"#,
    r#"{"equimod": {"projection_head": "8 bn-", "parameter_head": "6", "predictor": "8", "loss": "cosine-target"}}"#,
    r#"{"augself": {"hidden": [6], "tap": "stage2"}}"#,
    r#"{"essl": {"hidden": 6}}"#,
    r#"{"split": {"projection_head": "8-4"}}"#,
    r#"{"conditional": {"parameter_head": "3 bn"}}"#,
    r#"{"care": {"chunk": 2, "projection_head": "8-4"}}"#,
    r#"{"stl": {"code_head": "4 bn-", "projection_head": "8-4"}}"#,
];

/// Fails if there is an objective or a module that the lists lack.
pub fn assert_complete() {
    let lacks = |list: &[&str], start: String| !list.iter().any(|part| part.starts_with(&start));
    for entry in ObjectiveConfig::LIST {
        assert!(!lacks(&OBJECTIVES, format!(r#"{{"kind": "{}""#, entry.name)), "{} is not tested", entry.name);
    }
    for entry in EquivarianceConfig::LIST {
        assert!(!lacks(&MODULES, format!(r#"{{"{}""#, entry.name)), "{} is not tested", entry.name);
    }
}

/// A method with a network of width 2; `None` if the module does not support the objective.
pub fn method(
    objective: &str,
    modules: &str,
    dtype: DType,
    device: &'static Device,
    execution: Execution,
) -> Option<Method> {
    let text = format!(r#"{{"backbone": {{"width": 2}}, "objective": {objective}, "equivariance": {modules}}}"#);
    let config: MethodConfig = serde_json::from_str(&text).unwrap();
    if !config.validate(SIDE).is_empty() {
        return None;
    }
    let flag = |name: &str, augmentation: &str, flag: bool| PairValue {
        name: name.into(),
        augmentation: augmentation.into(),
        mean: 0.0,
        std: 1.0,
        reach: 1.0,
        flag,
    };
    let pair = vec![flag("top", "crop", false), flag("flip", "horizontal-flip", true)];
    let parameters = Parameters { pair, ..Parameters::of_views(3) };
    let collective = SingleProcess::shared();
    let placement = Placement { seed: 3, dtype, device, image_size: SIDE, collective, execution };
    Some(Method::new(&config, &parameters, placement).unwrap())
}

/// A batch of everything that the method needs, in the type and on the device of its parameters.
pub fn batch(method: &Method) -> StepBatch {
    let (needs, dtype, device) = (method.needs(), method.params().dtype(), method.params().device());
    let on = |t: Tensor| t.to_dtype(dtype).unwrap().to_device(device).unwrap();
    let random = |name: &str, dims: &[usize]| on(fill(name, dims, 1.0, 0.0, 5));
    let images = |name: &str, side: usize| random(name, &[IMAGES, 3, side, side]);
    let flags = (0..2 * IMAGES).flat_map(|row| [(row as f32 * 0.7).sin(), (row % 3) as f32 - 1.0]).collect::<Vec<_>>();
    StepBatch {
        clean: needs.clean_view.then(|| images("clean", SIDE)),
        small: needs.small.map(|small| images("small", small.size)),
        params: Some(random("params", &[2 * IMAGES, 3])),
        pairs: Some(on(Tensor::from_vec(flags, (2 * IMAGES, 2), &Device::Cpu).unwrap())),
        ..StepBatch::of_views([images("view 1", SIDE), images("view 2", SIDE)])
    }
}
