//! Recognition of the codebase that wrote a file, by its traces: hyperparameters, arguments and tensor names.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::images::Normalization;

/// A recognized codebase, with the properties of its networks that names and shapes do not determine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// Name of the codebase.
    pub code: String,
    /// Traces by which it was recognized, in words.
    pub evidence: String,
    /// Whether the traces describe these weights, rather than the habits of the codebase.
    pub is_record: bool,
    /// Architecture, as the codebase names it.
    pub architecture: Option<String>,
    /// Zero padding of the first convolution.
    pub stem_padding: Option<usize>,
    /// Whether a ReLU follows the stem.
    pub stem_relu: Option<bool>,
    /// Whether the stem ends with a max-pool.
    pub max_pool: Option<bool>,
    /// Side of the square input, in pixels.
    pub size: Option<usize>,
    /// Normalization of pixel values in [0, 1].
    pub normalization: Option<Normalization>,
}

/// Traces in and next to a file of a ResNet.
pub(super) struct Traces<'a> {
    /// Settings in the file: hyperparameters, arguments.
    pub settings: &'a Value,
    /// Content of the `args.json` next to the file, if there is one.
    pub arguments: Option<Value>,
    /// Names of all tensors.
    pub names: BTreeSet<&'a str>,
    /// Whether the stem is one 3×3 convolution.
    pub is_small_stem: bool,
    /// Index of the first stage's layer, if layers are numbered.
    pub first_stage: Option<usize>,
    pub path: &'a Path,
}

/// CIFAR-100 statistics of solo-learn.
const CIFAR100: Normalization = Normalization { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] };

/// The codebase that wrote a file; `None` if it is not recognized.
pub(super) fn recognize(traces: &Traces) -> Option<Origin> {
    let known = [solo_learn, bolts, lightly, timm, vissl, dino, moco, mmselfsup];
    known.into_iter().find_map(|recognize| recognize(traces))
}

impl Traces<'_> {
    fn any_name(&self, part: &str) -> bool {
        self.names.iter().any(|name| name.contains(part))
    }

    /// Hyperparameters stored by Lightning, or the arguments next to the file, with their place in words.
    fn hyper_parameters(&self) -> Option<(&Value, &'static str)> {
        let inside = self.settings.get("hyper_parameters").map(|found| (found, "hyper_parameters"));
        inside.or(self.arguments.as_ref().map(|found| (found, "args.json next to it")))
    }
}

fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    path.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}

/// Recognizes solo-learn, whose CIFAR ResNets have a first convolution with padding 2 and no max-pool.
fn solo_learn(traces: &Traces) -> Option<Origin> {
    let (found, place) = traces.hyper_parameters()?;
    let network = [&["backbone", "name"][..], &["backbone"], &["encoder"]];
    let architecture = network.iter().find_map(|path| text(found, path))?;
    let data = text(found, &["data", "dataset"]).or_else(|| text(found, &["dataset"]))?;
    let method = text(found, &["method"])?;
    let cifar = match data {
        "cifar10" => Some(Normalization::CIFAR10),
        "cifar100" => Some(CIFAR100),
        _ => None,
    };
    let is_cifar = cifar.is_some() && traces.is_small_stem;
    Some(Origin {
        code: "solo-learn".into(),
        evidence: format!("solo-learn, by {place}: {method}, {architecture}, {data}"),
        architecture: Some(architecture.into()),
        stem_padding: is_cifar.then_some(2),
        max_pool: is_cifar.then_some(false),
        size: is_cifar.then_some(32),
        normalization: cifar.or_else(|| data.starts_with("imagenet").then_some(Normalization::IMAGENET)),
        ..Origin::default()
    })
}

/// Recognizes Lightning Bolts, which records whether its ResNets have the ImageNet stem and a max-pool.
fn bolts(traces: &Traces) -> Option<Origin> {
    let (found, place) = traces.hyper_parameters()?;
    let pool = found.get("maxpool1")?.as_bool()?;
    let first = found.get("first_conv")?.as_bool()?;
    Some(Origin {
        code: "Lightning Bolts".into(),
        evidence: format!("Lightning Bolts, by {place}: first_conv {first}, maxpool1 {pool}"),
        architecture: text(found, &["arch"]).map(Into::into),
        stem_padding: Some(if first { 3 } else { 1 }),
        stem_relu: Some(true),
        max_pool: Some(pool),
        normalization: (text(found, &["dataset"]) == Some("imagenet")).then_some(Normalization::IMAGENET),
        ..Origin::default()
    })
}

/// Recognizes lightly, whose `ResNetGenerator` has functional ReLUs: as a Sequential, it has none after the stem.
fn lightly(traces: &Traces) -> Option<Origin> {
    let is_it = traces.first_stage == Some(2) && traces.any_name(".shortcut.");
    is_it.then(|| Origin {
        code: "lightly".into(),
        evidence: "lightly's ResNetGenerator as a Sequential, by the numbers of its layers and `shortcut`".into(),
        stem_padding: Some(1),
        stem_relu: Some(false),
        max_pool: Some(false),
        ..Origin::default()
    })
}

/// Recognizes timm, whose training script saves its arguments; `arch` names the network.
fn timm(traces: &Traces) -> Option<Origin> {
    let architecture = text(traces.settings, &["arch"])?;
    let arguments = traces.settings.get("args")?;
    // Arguments that only timm's script has.
    arguments.get("aug_repeats").or(arguments.get("model_ema_decay")).or(arguments.get("smoothing"))?;
    let three = |key: &str| -> Option<[f32; 3]> { serde_json::from_value(arguments.get(key)?.clone()).ok() };
    let side = |key: &str| arguments.get(key)?.as_u64().and_then(|side| usize::try_from(side).ok());
    let input = || -> Option<usize> { arguments.get("input_size")?.get(1)?.as_u64()?.try_into().ok() };
    Some(Origin {
        code: "timm".into(),
        evidence: format!("timm's training script, by its arguments: {architecture}"),
        architecture: Some(architecture.into()),
        stem_relu: Some(true),
        size: side("img_size").or_else(input),
        normalization: three("mean").zip(three("std")).map(|(mean, std)| Normalization { mean, std }),
        ..Origin::default()
    })
}

fn vissl(traces: &Traces) -> Option<Origin> {
    traces.any_name("_feature_blocks.").then(|| of_imagenet(traces, "VISSL", "the name _feature_blocks", None))
}

fn dino(traces: &Traces) -> Option<Origin> {
    let both = traces.any_name("teacher.") && traces.any_name("student.");
    let architecture = traces.settings.get("args").and_then(|arguments| text(arguments, &["arch"]));
    both.then(|| of_imagenet(traces, "DINO", "the names teacher and student", architecture))
}

fn moco(traces: &Traces) -> Option<Origin> {
    let known = traces.any_name("encoder_q.") && traces.any_name("queue")
        || traces.any_name("base_encoder.") && traces.any_name("momentum_encoder.");
    known.then(|| of_imagenet(traces, "MoCo", "the names of its encoders", text(traces.settings, &["arch"])))
}

fn mmselfsup(traces: &Traces) -> Option<Origin> {
    let meta = traces.settings.get("meta")?;
    meta.get("mmcv_version").or(meta.get("mmengine_version"))?;
    Some(of_imagenet(traces, "OpenMMLab", "the versions in `meta`", None))
}

/// Origin of a codebase whose published networks were trained on ImageNet.
fn of_imagenet(traces: &Traces, code: &str, by: &str, architecture: Option<&str>) -> Origin {
    let usual = !traces.is_small_stem;
    Origin {
        code: code.into(),
        evidence: format!("{code}, by {by}"),
        architecture: architecture.map(Into::into),
        stem_relu: Some(true),
        max_pool: usual.then_some(true),
        stem_padding: usual.then_some(3),
        size: usual.then_some(224),
        normalization: usual.then_some(Normalization::IMAGENET),
        ..Origin::default()
    }
}

/// Architectures that have the names and shapes of a ResNet but compute something else, each with the difference.
const LOOKALIKES: [(&str, &str); 4] = [
    ("resnetblur", "blurs before it subsamples"),
    ("resnetaa", "averages before it subsamples"),
    ("resnetrs", "has another stem and squeeze-and-excitation"),
    ("resnet_ibn", "has instance norms"),
];

/// Reason why a network called `architecture` is not supported, despite a ResNet's names; `None` if it may be.
pub(super) fn lookalike(architecture: &str) -> Option<String> {
    let name = architecture.to_lowercase();
    let (start, why) =
        LOOKALIKES.iter().find(|(start, _)| name.split(['.', '/', '-']).any(|p| p.starts_with(start)))?;
    let word = name.split(['.', '/', '-']).find(|part| part.starts_with(start)).unwrap_or(start);
    Some(format!("it is a {word}, which has a ResNet's names but {why}; that network is not built here"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(settings: &Value, names: &[&'static str], is_small_stem: bool) -> Option<Origin> {
        let (names, path) = (names.iter().copied().collect(), Path::new("file.ckpt"));
        recognize(&Traces { settings, arguments: None, names, is_small_stem, first_stage: None, path })
    }

    #[test]
    fn codes_are_known_by_their_traces() {
        let new = json!({"hyper_parameters": {
            "method": "byol", "backbone": {"name": "resnet18"}, "data": {"dataset": "cifar100"},
        }});
        let old = json!({"hyper_parameters": {"method": "byol", "encoder": "resnet18", "dataset": "cifar10"}});
        for (settings, mean) in [(new, CIFAR100.mean), (old, Normalization::CIFAR10.mean)] {
            let found = of(&settings, &[], true).unwrap();
            assert_eq!((found.code.as_str(), found.stem_padding, found.max_pool), ("solo-learn", Some(2), Some(false)));
            assert_eq!(found.normalization.unwrap().mean, mean);
        }
        let bolts = json!({"hyper_parameters": {
            "arch": "resnet18", "first_conv": false, "maxpool1": true, "dataset": "cifar10",
        }});
        assert_eq!(of(&bolts, &[], true).unwrap().max_pool, Some(true));
        let timm = json!({"arch": "resnet50d", "args": {
            "aug_repeats": 0, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "img_size": 160,
        }});
        let found = of(&timm, &[], false).unwrap();
        assert_eq!((found.code.as_str(), found.size, found.normalization.unwrap().std), ("timm", Some(160), [0.5; 3]));
        let none = Value::Null;
        assert_eq!(of(&none, &["module.encoder_q.conv1.weight", "module.queue"], false).unwrap().code, "MoCo");
        assert_eq!(of(&none, &["trunk._feature_blocks.conv1.weight"], false).unwrap().code, "VISSL");
        assert_eq!(of(&none, &["conv1.weight"], false), None);
    }

    #[test]
    fn networks_with_a_resnets_names_are_named() {
        for name in ["resnetblur50", "timm/resnetaa50d.sw_in12k", "resnetblur50-84f4748f.pth"] {
            assert!(lookalike(name).unwrap().contains("not built here"), "{name}");
        }
        for name in ["resnet50", "resnet50d.ra2_in1k", "wide_resnet50_2", "my-resnet"] {
            assert_eq!(lookalike(name), None, "{name}");
        }
    }
}
