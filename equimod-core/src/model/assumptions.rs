//! Properties of a network from another codebase that its tensor names and shapes do not determine, and the assumptions
//! made about them.

use serde::{Deserialize, Serialize};

use super::Preprocessing;
use super::origin::Origin;
use crate::backbone::{ResNetConfig, Stem};
use crate::images::Normalization;

/// A user's settings for a network whose file does not state them; `None` for those to be recognized or assumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// Zero padding of the first convolution.
    pub stem_padding: Option<usize>,
    /// Whether a ReLU follows the stem's last batch norm.
    pub stem_relu: Option<bool>,
    /// Whether the stem ends with a 3×3 max-pool of stride 2.
    pub stem_max_pool: Option<bool>,
    /// Side of the square input, in pixels.
    pub input_size: Option<usize>,
    /// Means of red, green and blue in [0, 1].
    pub mean: Option<[f32; 3]>,
    /// Standard deviations of red, green and blue in [0, 1].
    pub std: Option<[f32; 3]>,
}

/// Source of a property's value, from the most to the least certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// Given by the user.
    Given,
    /// Recorded in the file or in one next to it.
    Recorded,
    /// Implied by the codebase that wrote the file.
    Recognized,
    /// Assumed, without any evidence.
    Assumed,
}

/// A property that names and shapes do not determine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assumption {
    /// Name of the property: `stem padding`, `mean`, …
    pub what: String,
    /// The value used.
    pub value: String,
    /// Source of the value.
    pub certainty: Certainty,
    /// Reason for the value.
    pub reason: String,
    /// Command-line option that overrides the value; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub option: String,
}

/// Record stored with imported weights, so that they are interpreted the same everywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// Version of the program that wrote it.
    pub version: String,
    /// Settings of the network, including all properties that names and shapes do not determine.
    pub backbone: ResNetConfig,
    /// Input size and normalization.
    pub preprocessing: Preprocessing,
    /// Codebase that wrote the weights, if it was recognized.
    #[serde(default)]
    pub code: Option<String>,
    /// All properties with their values and reasons.
    pub assumptions: Vec<Assumption>,
}

impl Imported {
    /// The assumed properties with the options that override them, in words; `None` if nothing was assumed.
    pub fn assumed(&self) -> Option<String> {
        self.list_assumed(|a| format!("{} {} ({})", a.what, a.value, a.option))
    }

    /// [`Self::assumed`] without the options.
    pub fn assumed_values(&self) -> Option<String> {
        self.list_assumed(|a| format!("{} {}", a.what, a.value))
    }

    fn list_assumed(&self, text: impl Fn(&Assumption) -> String) -> Option<String> {
        let assumed = self.assumptions.iter().filter(|a| a.certainty == Certainty::Assumed && !a.option.is_empty());
        let each: Vec<String> = assumed.map(text).collect();
        (!each.is_empty()).then(|| each.join("; "))
    }

    /// Whether the input size or the normalization was assumed.
    pub fn is_input_assumed(&self) -> bool {
        let is_input = |a: &&Assumption| ["--mean", "--std", "--input-size"].contains(&a.option.as_str());
        self.assumptions.iter().filter(is_input).any(|a| a.certainty == Certainty::Assumed)
    }

    /// Source of the same value at the time of the import, and the reason for it: to write down what was assumed does not
    /// make it certain.
    fn source(&self, now: &Assumption) -> Option<(Certainty, String)> {
        let earlier = self.assumptions.iter().find(|a| a.what == now.what && a.value == now.value)?;
        Some(match earlier.certainty {
            Certainty::Recorded | Certainty::Assumed => (earlier.certainty, earlier.reason.clone()),
            Certainty::Given => (Certainty::Recorded, "given when it was imported".into()),
            Certainty::Recognized => {
                (Certainty::Recorded, format!("recognized when it was imported: {}", earlier.reason))
            }
        })
    }
}

/// A value with its source and reason.
struct Settled<T> {
    value: T,
    certainty: Certainty,
    reason: String,
}

impl<T> Settled<T> {
    fn new(value: T, certainty: Certainty, reason: impl Into<String>) -> Self {
        Self { value, certainty, reason: reason.into() }
    }
}

/// Settles each property, in this order: the user's choice, the record in the file, the habits of the recognized
/// codebase, the tensor names, and the most common value. `first_stage` is the index of the first stage's layer if
/// layers are numbered.
pub(super) fn settle(
    shapes: ResNetConfig,
    first_stage: Option<usize>,
    (recorded, origin, choices): (Option<&Imported>, Option<&Origin>, &Choices),
) -> (ResNetConfig, Preprocessing, Vec<Assumption>) {
    let evidence = Evidence { recorded, origin };
    let stem = shapes.stem;
    let mut config = recorded.map_or(shapes, |recorded| recorded.backbone.clone());
    let padding = evidence.settle(
        choices.stem_padding,
        |recorded| recorded.backbone.padding(),
        |origin| origin.stem_padding,
        || (stem.kernel() / 2, format!("half the {0}×{0} kernel, as torchvision has it", stem.kernel())),
    );
    let by_number = |layers: &str| format!("its layers are numbered, with {layers} between the stem and the stages");
    let relu = evidence.settle(
        choices.stem_relu,
        |recorded| recorded.backbone.stem_relu,
        |origin| origin.stem_relu,
        || match first_stage {
            Some(2) => (false, by_number("nothing")),
            _ => (true, "as torchvision has it".into()),
        },
    );
    let pool = evidence.settle(
        choices.stem_max_pool,
        |recorded| recorded.backbone.pools(),
        |origin| origin.max_pool,
        || match (first_stage, stem) {
            (Some(2), _) => (false, by_number("nothing")),
            (Some(3), _) => (false, by_number("one layer, the ReLU,")),
            (_, Stem::Cifar) => (false, "networks with a 3×3 stem of stride 1 rarely have one".into()),
            _ => (true, "as torchvision has it".into()),
        },
    );
    config.stem_padding = Some(padding.value).filter(|padding| *padding != stem.kernel() / 2);
    config.stem_relu = relu.value;
    config.max_pool = Some(pool.value).filter(|pool| *pool != (stem != Stem::Cifar));
    let (preprocessing, mut inputs) = evidence.preprocessing(stem, choices);
    let stride = if stem == Stem::Cifar { 1 } else { 2 };
    let fixed = |what: &str, value: &str, reason: &str| {
        assumption(what, Settled::new(value.to_owned(), Certainty::Assumed, reason), "")
    };
    let only = "no other is built";
    let mut assumptions = vec![
        fixed("stem stride", &stride.to_string(), only),
        assumption("stem padding", shown(padding, |padding| padding.to_string()), "--stem-padding"),
        assumption(
            "ReLU after the stem",
            shown(relu, yes),
            if config.stem_relu { "--no-stem-relu" } else { "--stem-relu" },
        ),
        assumption("max-pool", shown(pool, yes), if config.pools() { "--no-stem-max-pool" } else { "--stem-max-pool" }),
        fixed(
            "subsampling",
            "by strides, no blur",
            "no other is built; timm's resnetblur and resnetaa have the same names",
        ),
        fixed("pooling", "global average", only),
    ];
    assumptions.append(&mut inputs);
    for assumption in assumptions.iter_mut().filter(|a| a.certainty == Certainty::Recorded) {
        if let Some((certainty, reason)) = recorded.and_then(|recorded| recorded.source(assumption)) {
            (assumption.certainty, assumption.reason) = (certainty, reason);
        }
    }
    (config, preprocessing, assumptions)
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

fn shown<T>(settled: Settled<T>, show: impl Fn(T) -> String) -> Settled<String> {
    Settled { value: show(settled.value), certainty: settled.certainty, reason: settled.reason }
}

fn assumption(what: &str, settled: Settled<String>, option: &str) -> Assumption {
    let Settled { value, certainty, reason } = settled;
    Assumption { what: what.into(), value, certainty, reason, option: option.into() }
}

struct Evidence<'a> {
    recorded: Option<&'a Imported>,
    origin: Option<&'a Origin>,
}

impl Evidence<'_> {
    fn settle<T>(
        &self,
        given: Option<T>,
        recorded: impl Fn(&Imported) -> T,
        recognized: impl Fn(&Origin) -> Option<T>,
        assumed: impl Fn() -> (T, String),
    ) -> Settled<T> {
        if let Some(value) = given {
            return Settled::new(value, Certainty::Given, "given");
        }
        if let Some(imported) = self.recorded {
            return Settled::new(recorded(imported), Certainty::Recorded, "written in the file");
        }
        if let Some((origin, value)) = self.origin.and_then(|origin| Some((origin, recognized(origin)?))) {
            let certainty = if origin.is_record { Certainty::Recorded } else { Certainty::Recognized };
            return Settled::new(value, certainty, &origin.evidence);
        }
        let (value, reason) = assumed();
        Settled::new(value, Certainty::Assumed, reason)
    }

    /// Input size and normalization of the network.
    fn preprocessing(&self, stem: Stem, choices: &Choices) -> (Preprocessing, Vec<Assumption>) {
        let (usual_size, usual, whose) = match stem {
            Stem::Cifar => (32, Normalization::CIFAR10, "CIFAR-10's"),
            Stem::ImageNet | Stem::Deep => (224, Normalization::IMAGENET, "ImageNet's"),
        };
        let reason = format!("{whose}, by the stem");
        let of = |origin: &Origin| origin.normalization;
        let size = self.settle(
            choices.input_size,
            |recorded| recorded.preprocessing.size,
            |origin| origin.size,
            || (usual_size, reason.clone()),
        );
        let mean = self.settle(
            choices.mean,
            |recorded| recorded.preprocessing.normalization.mean,
            |origin| of(origin).map(|n| n.mean),
            || (usual.mean, reason.clone()),
        );
        let std = self.settle(
            choices.std,
            |recorded| recorded.preprocessing.normalization.std,
            |origin| of(origin).map(|n| n.std),
            || (usual.std, reason.clone()),
        );
        let normalization = Normalization { mean: mean.value, std: std.value };
        let preprocessing = Preprocessing { size: size.value, normalization };
        let three = |[red, green, blue]: [f32; 3]| format!("{red}, {green}, {blue}");
        let assumptions = vec![
            assumption("mean", shown(mean, three), "--mean"),
            assumption("standard deviation", shown(std, three), "--std"),
            assumption("input size", shown(size, |size| size.to_string()), "--input-size"),
        ];
        (preprocessing, assumptions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(found: &[Assumption], what: &str) -> (String, Certainty) {
        let found = found.iter().find(|assumption| assumption.what == what).unwrap();
        (found.value.clone(), found.certainty)
    }

    #[test]
    fn what_is_given_goes_before_what_is_recorded_recognized_or_assumed() {
        let shapes = ResNetConfig::default;
        let nothing = Choices::default();
        let (config, preprocessing, found) = settle(shapes(), None, (None, None, &nothing));
        assert_eq!(config, shapes());
        assert_eq!(value(&found, "stem padding"), ("1".into(), Certainty::Assumed));
        assert_eq!(value(&found, "max-pool"), ("no".into(), Certainty::Assumed));
        assert_eq!(preprocessing.size, 32);

        let origin = Origin { code: "a code".into(), stem_padding: Some(2), size: Some(64), ..Origin::default() };
        let (config, preprocessing, found) = settle(shapes(), None, (None, Some(&origin), &nothing));
        assert_eq!((config.stem_padding, preprocessing.size), (Some(2), 64));
        assert_eq!(value(&found, "stem padding"), ("2".into(), Certainty::Recognized));

        let (version, code) = Default::default();
        let backbone = ResNetConfig { stem_padding: Some(0), max_pool: Some(true), ..shapes() };
        let recorded = Imported { version, backbone, preprocessing, code, assumptions: Vec::new() };
        let (config, _, found) = settle(shapes(), None, (Some(&recorded), Some(&origin), &nothing));
        assert_eq!(config, recorded.backbone);
        assert_eq!(value(&found, "max-pool"), ("yes".into(), Certainty::Recorded));

        let given = Choices {
            stem_padding: Some(1),
            stem_relu: Some(false),
            stem_max_pool: Some(false),
            mean: Some([0.5; 3]),
            ..Choices::default()
        };
        let (config, preprocessing, found) = settle(shapes(), None, (Some(&recorded), Some(&origin), &given));
        assert_eq!(config, ResNetConfig { stem_relu: false, ..shapes() });
        assert_eq!(preprocessing.normalization, Normalization { mean: [0.5; 3], std: Normalization::CIFAR10.std });
        assert_eq!(value(&found, "ReLU after the stem"), ("no".into(), Certainty::Given));
    }

    #[test]
    fn numbers_of_layers_say_what_lies_between_stem_and_stages() {
        let nothing = Choices::default();
        let of = |shapes: &ResNetConfig, first| {
            let config = settle(shapes.clone(), Some(first), (None, None, &nothing)).0;
            (config.stem_relu, config.pools())
        };
        let cifar = ResNetConfig::default();
        let imagenet = ResNetConfig { stem: Stem::ImageNet, ..ResNetConfig::default() };
        assert_eq!([of(&cifar, 2), of(&cifar, 3), of(&cifar, 4)], [(false, false), (true, false), (true, false)]);
        assert_eq!(
            [of(&imagenet, 2), of(&imagenet, 3), of(&imagenet, 4)],
            [(false, false), (true, false), (true, true)]
        );
    }
}
