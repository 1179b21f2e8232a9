//! `config.json`: timm's part for backbones that timm knows, and ours.

use equimod_core::model::{Exported, Preprocessing};
use equimod_core::{Description, Model, ResNetConfig, Stem};
use equimod_data::{ParamLayout, ParamValue, Policy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Told;

/// The key of what is said of weights of others.
pub const OTHERS: &str = "resnet";
/// Channels of the first stage of torchvision's and timm's ResNets.
const WIDTH: usize = 64;
/// The part of a resized picture's side that is cropped: all of it, as most protocols see pictures here.
const CROP: f64 = 1.0;
/// By how much a ResNet with the ImageNet stem divides a picture's side.
const STRIDE: usize = 32;

/// How the weights were trained, as far as a run directory says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The pictures.
    pub data: String,
    /// Of the pictures.
    pub data_fingerprint: String,
    /// Passes over them.
    pub epochs: u64,
    /// Pictures of a step.
    pub batch: usize,
    /// What the recipe says of itself.
    pub about: String,
    /// The command, without the paths of the machine.
    pub command: String,
    /// Where tensors lived.
    pub device: String,
    /// Seconds of training.
    pub seconds: f64,
    /// The most memory, in bytes.
    pub peak_memory: u64,
    /// The weights that the run began with, if they were not drawn.
    #[serde(default)]
    pub from: Option<String>,
    /// Whether the weights are those at the end of it.
    #[serde(default = "yes")]
    pub finished: bool,
}

fn yes() -> bool {
    true
}

/// The name by which timm, torchvision and candle know a backbone, if they do.
pub fn timm_name(backbone: &ResNetConfig) -> Option<&'static str> {
    let standard = backbone.stem == Stem::ImageNet && backbone.width == WIDTH;
    standard.then(|| backbone.architecture.name())
}

/// The whole of `config.json`.
pub fn config(
    model: &Model,
    exported: Option<&Exported>,
    training: Option<&Training>,
    earlier: Option<&Value>,
    told: &Told,
) -> anyhow::Result<Value> {
    let backbone = model.backbone_config()?;
    let mut config = match timm_name(&backbone) {
        Some(name) => plain(&timm(name, model.backbone().features(), &model.preprocessing, told)?)?,
        None => json!({}),
    };
    let mut ours = match exported {
        Some(exported) => plain(exported)?,
        // Weights of others, which have no description: what their shapes say.
        None => {
            config[OTHERS] = plain(&backbone)?;
            config[OTHERS]["licence"] = json!(told.licence);
            config[OTHERS]["data_licence"] = json!(told.data_licence);
            return Ok(config);
        }
    };
    let weights = json!({ "file": model.path.file_name().map(|f| f.to_string_lossy()), "sha256": model.sha256 });
    ours["weights"] = earlier.and_then(|earlier| earlier.get("weights")).cloned().unwrap_or(weights);
    if let Some(layout) = exported.map(|e| layout(&e.description)).transpose()?.flatten() {
        ours["parameter_vector"] = layout;
    }
    ours["training"] = plain(&training)?;
    ours["licence"] = json!(told.licence);
    ours["data_licence"] = json!(told.data_licence);
    config["equimod"] = ours;
    Ok(config)
}

/// As JSON, numbers of 32 bits with no more digits than they have.
fn plain(value: &impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&serde_json::to_string(value)?)?)
}

/// What timm reads: which network, and how pictures enter it.
fn timm(name: &str, features: usize, preprocessing: &Preprocessing, told: &Told) -> anyhow::Result<Value> {
    let Preprocessing { size, normalisation } = preprocessing;
    Ok(json!({
        "architecture": name,
        "num_classes": 0,
        "num_features": features,
        "global_pool": "avg",
        "pretrained_cfg": {
            "tag": "equimod",
            "custom_load": false,
            "input_size": [3, size, size],
            "fixed_input_size": false,
            "interpolation": "bicubic",
            "crop_pct": CROP,
            "crop_mode": "center",
            "mean": plain(&normalisation.mean)?,
            "std": plain(&normalisation.std)?,
            "num_classes": 0,
            "pool_size": [size.div_ceil(STRIDE), size.div_ceil(STRIDE)],
            "first_conv": "conv1",
            "classifier": "fc",
            "license": told.licence,
        },
    }))
}

/// A value of the vector; a bound without end is null, as JSON has no number for it.
#[derive(Serialize)]
struct ParameterValue<'a> {
    name: &'a str,
    augmentation: &'a str,
    unit: &'a str,
    least: f32,
    largest: f32,
    mean: f32,
    std: f32,
    without_the_augmentation: f32,
}

/// Each value of the vector that describes a view, with its unit and the statistics that normalise it.
fn layout(description: &Description) -> anyhow::Result<Option<Value>> {
    let read = |key: &str| description.augmentation.get(key).filter(|value| !value.is_null()).cloned();
    let (Some(policy), Some(layout)) = (read("policy"), read("layout")) else { return Ok(None) };
    let (policy, layout): (Policy, ParamLayout) = (serde_json::from_value(policy)?, serde_json::from_value(layout)?);
    let values = layout.values(&policy);
    let statistics = layout.mean.iter().zip(&layout.std).zip(&layout.neutral);
    let value = |(value, ((mean, std), neutral)): (&ParamValue, ((&f32, &f32), &f32))| {
        plain(&ParameterValue {
            name: value.name,
            augmentation: value.augmentation,
            unit: value.unit,
            least: value.least,
            largest: value.largest,
            mean: *mean,
            std: *std,
            without_the_augmentation: *neutral,
        })
    };
    Ok(Some(values.iter().zip(statistics).map(value).collect::<anyhow::Result<Value>>()?))
}
