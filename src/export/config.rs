//! `config.json`: timm's part for backbones that timm knows, and ours.

use equimod_core::model::{Exported, Preprocessing};
use equimod_core::{Architecture, Description, Model, ResNetConfig, Stem};
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

/// A variant of a ResNet that libraries have a name for.
struct Variant {
    name: &'static str,
    architecture: Architecture,
    stem: Stem,
    /// Channel groups, and channels of each in the first stage.
    groups: (usize, usize),
    average_shortcut: bool,
    torchvision: bool,
}

/// ResNeXt and wide ResNets; whether torchvision has them, too.
const fn grouped(name: &'static str, architecture: Architecture, groups: (usize, usize), torchvision: bool) -> Variant {
    Variant { name, architecture, stem: Stem::ImageNet, groups, average_shortcut: false, torchvision }
}

/// ResNet-C and -D, which timm has.
const fn deep(name: &'static str, architecture: Architecture, average_shortcut: bool) -> Variant {
    Variant { name, architecture, stem: Stem::Deep, groups: (1, WIDTH), average_shortcut, torchvision: false }
}

const VARIANTS: [Variant; 14] = [
    grouped("resnext50_32x4d", Architecture::ResNet50, (32, 4), true),
    grouped("resnext101_32x8d", Architecture::ResNet101, (32, 8), true),
    grouped("resnext101_64x4d", Architecture::ResNet101, (64, 4), true),
    grouped("resnext101_32x4d", Architecture::ResNet101, (32, 4), false),
    grouped("wide_resnet50_2", Architecture::ResNet50, (1, 2 * WIDTH), true),
    grouped("wide_resnet101_2", Architecture::ResNet101, (1, 2 * WIDTH), true),
    deep("resnet50c", Architecture::ResNet50, false),
    deep("resnet101c", Architecture::ResNet101, false),
    deep("resnet152c", Architecture::ResNet152, false),
    deep("resnet18d", Architecture::ResNet18, true),
    deep("resnet34d", Architecture::ResNet34, true),
    deep("resnet50d", Architecture::ResNet50, true),
    deep("resnet101d", Architecture::ResNet101, true),
    deep("resnet152d", Architecture::ResNet152, true),
];

/// A backbone's name in libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryName {
    /// timm's, and torchvision's and candle's where they have it.
    pub name: &'static str,
    /// Whether torchvision has it.
    pub torchvision: bool,
    /// Whether candle-transformers has it.
    pub candle: bool,
}

/// The name by which libraries know a backbone, if they do.
pub fn library_name(backbone: &ResNetConfig) -> Option<LibraryName> {
    // As it is, whether standard settings are written out or absent.
    let is = |config: ResNetConfig| {
        let written = ResNetConfig {
            stem_padding: Some(backbone.padding()),
            stem_widths: (backbone.stem == Stem::Deep).then_some(backbone.deep_widths()),
            max_pool: Some(backbone.pools()),
            ..backbone.clone()
        };
        let same = ResNetConfig {
            stem_padding: Some(config.padding()),
            stem_widths: (config.stem == Stem::Deep).then_some(config.deep_widths()),
            max_pool: Some(config.pools()),
            ..config
        };
        written == same
    };
    let plain = ResNetConfig { architecture: backbone.architecture, stem: Stem::ImageNet, ..ResNetConfig::default() };
    if is(plain) {
        return Some(LibraryName { name: backbone.architecture.name(), torchvision: true, candle: true });
    }
    let variant = VARIANTS.iter().find(|variant| {
        let &Variant { architecture, stem, groups: (groups, width_per_group), average_shortcut, .. } = *variant;
        is(ResNetConfig { architecture, stem, groups, width_per_group, average_shortcut, ..ResNetConfig::default() })
    })?;
    Some(LibraryName { name: variant.name, torchvision: variant.torchvision, candle: false })
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
    let mut config = match library_name(&backbone) {
        Some(found) => plain(&timm(found.name, &backbone, &model.preprocessing, told)?)?,
        None => json!({}),
    };
    let mut ours = match exported {
        Some(exported) => plain(exported)?,
        // Weights of others, which have no description: what their shapes say.
        None => {
            config[OTHERS] = plain(&backbone)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_claimed_for_what_libraries_build_and_nothing_else() {
        let name =
            |config: &ResNetConfig| library_name(config).map(|found| (found.name, found.torchvision, found.candle));
        let plain =
            ResNetConfig { architecture: Architecture::ResNet50, stem: Stem::ImageNet, ..ResNetConfig::default() };
        assert_eq!(name(&plain), Some(("resnet50", true, true)));
        let written = ResNetConfig { stem_padding: Some(3), max_pool: Some(true), ..plain.clone() };
        assert_eq!(name(&written), Some(("resnet50", true, true)));
        let resnext = ResNetConfig { groups: 32, width_per_group: 4, ..plain.clone() };
        assert_eq!(name(&resnext), Some(("resnext50_32x4d", true, false)));
        let wide = ResNetConfig { width_per_group: 128, ..plain.clone() };
        assert_eq!(name(&wide), Some(("wide_resnet50_2", true, false)));
        let deep = ResNetConfig { stem: Stem::Deep, average_shortcut: true, ..plain.clone() };
        assert_eq!(name(&deep), Some(("resnet50d", false, false)));
        for other in [
            ResNetConfig::default(),
            ResNetConfig { stem_padding: Some(2), ..plain.clone() },
            ResNetConfig { stem_relu: false, ..plain.clone() },
            ResNetConfig { max_pool: Some(false), ..plain.clone() },
            ResNetConfig { width: 32, ..plain.clone() },
            ResNetConfig { stem_widths: Some([24, 32, 64]), ..deep.clone() },
            ResNetConfig { average_shortcut: true, ..plain },
        ] {
            assert_eq!(name(&other), None, "{other}");
        }
    }
}
