//! `config.json` of an export: timm's entries for backbones that timm knows, and equimod's own.

use equimod_core::model::Exported;
use equimod_core::{BackboneConfig, Description, Model, Preprocessing, ResNetConfig, Stem};
use equimod_data::{ParamLayout, ParamValue, Policy};
use serde::Serialize;
use serde_json::{Value, json};

use super::Licenses;
use crate::artifact::{IMPORTED_KEY, Training};

/// Crop ratio: the whole side of a resized image, as in most protocols here.
const CROP: f64 = 1.0;
/// Total stride of a ResNet with the ImageNet stem.
const STRIDE: usize = 32;

/// Content of `config.json`.
///
/// # Errors
///
/// If a description cannot be written as JSON.
pub fn config(
    model: &Model,
    exported: Option<&Exported>,
    training: Option<&Training>,
    earlier: Option<&Value>,
    licenses: &Licenses,
) -> anyhow::Result<Value> {
    let backbone = model.backbone_config()?;
    let mut config = match (backbone.settings().library_name(), &backbone) {
        (Some(found), BackboneConfig::ResNet(resnet)) => {
            plain(&timm(found.name, resnet, &model.preprocessing, licenses)?)?
        }
        _ => json!({}),
    };
    let mut ours = match exported {
        Some(exported) => plain(exported)?,
        // Imported weights have no description; the configuration is inferred from their shapes.
        None => {
            config[IMPORTED_KEY] = match &backbone {
                BackboneConfig::ResNet(resnet) => plain(resnet)?,
                other => plain(other)?,
            };
            config[IMPORTED_KEY]["assumptions"] =
                plain(&model.imported.as_ref().map(|imported| &imported.assumptions))?;
            config[IMPORTED_KEY]["license"] = json!(licenses.weights);
            config[IMPORTED_KEY]["data_license"] = json!(licenses.data);
            return Ok(config);
        }
    };
    let weights = json!({ "file": model.path.file_name().map(|f| f.to_string_lossy()), "sha256": model.sha256 });
    ours["weights"] = earlier.and_then(|earlier| earlier.get("weights")).cloned().unwrap_or(weights);
    if let Some(layout) = exported.map(|e| layout(&e.description)).transpose()?.flatten() {
        ours["parameter_vector"] = layout;
    }
    ours["training"] = plain(&training)?;
    ours["license"] = json!(licenses.weights);
    ours["data_license"] = json!(licenses.data);
    config["equimod"] = ours;
    Ok(config)
}

/// The value as JSON; through text, so that f32 values keep their short decimal form.
fn plain(value: &impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&serde_json::to_string(value)?)?)
}

/// timm's entries: architecture and preprocessing.
fn timm(
    name: &str,
    backbone: &ResNetConfig,
    preprocessing: &Preprocessing,
    licenses: &Licenses,
) -> anyhow::Result<Value> {
    let Preprocessing { size, normalization } = preprocessing;
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
            "mean": plain(&normalization.mean)?,
            "std": plain(&normalization.std)?,
            "num_classes": 0,
            "pool_size": [size.div_ceil(STRIDE), size.div_ceil(STRIDE)],
            "first_conv": if backbone.stem == Stem::Deep { "conv1.0" } else { "conv1" },
            "classifier": "fc",
            "license": licenses.weights,
        },
    }))
}

/// One value of the parameter vector; infinite bounds become null, because JSON cannot express them.
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

/// Each value of a view's parameter vector, with its unit and normalization statistics.
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
