//! `config.json`: timm's part for backbones that timm knows, and ours.

use equimod_core::model::Exported;
use equimod_core::{BackboneConfig, Description, Model, Preprocessing, ResNetConfig, Stem};
use equimod_data::{ParamLayout, ParamValue, Policy};
use serde::Serialize;
use serde_json::{Value, json};

use super::Told;
use crate::artifact::{OTHERS, Training};

/// The part of a resized picture's side that is cropped: all of it, as most protocols see pictures here.
const CROP: f64 = 1.0;
/// By how much a ResNet with the ImageNet stem divides a picture's side.
const STRIDE: usize = 32;

/// The whole of `config.json`.
pub fn config(
    model: &Model,
    exported: Option<&Exported>,
    training: Option<&Training>,
    earlier: Option<&Value>,
    told: &Told,
) -> anyhow::Result<Value> {
    let backbone = model.backbone_config()?;
    let mut config = match (backbone.settings().library_name(), &backbone) {
        (Some(found), BackboneConfig::ResNet(resnet)) => plain(&timm(found.name, resnet, &model.preprocessing, told)?)?,
        _ => json!({}),
    };
    let mut ours = match exported {
        Some(exported) => plain(exported)?,
        // Weights of others, which have no description: what their shapes say.
        None => {
            config[OTHERS] = match &backbone {
                BackboneConfig::ResNet(resnet) => plain(resnet)?,
                other => plain(other)?,
            };
            config[OTHERS]["assumptions"] = plain(&model.imported.as_ref().map(|imported| &imported.assumptions))?;
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
fn timm(name: &str, backbone: &ResNetConfig, preprocessing: &Preprocessing, told: &Told) -> anyhow::Result<Value> {
    let Preprocessing { size, normalisation } = preprocessing;
    Ok(json!({
        "architecture": name,
        "num_classes": 0,
        "num_features": backbone.features(),
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
            "first_conv": if backbone.stem == Stem::Deep { "conv1.0" } else { "conv1" },
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
