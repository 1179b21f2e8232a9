//! Settings of a ResNet.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Depth and block type of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Basic blocks 2-2-2-2.
    #[default]
    ResNet18,
    /// Basic blocks 3-4-6-3.
    ResNet34,
    /// Bottleneck blocks 3-4-6-3.
    ResNet50,
    /// Bottleneck blocks 3-4-23-3.
    ResNet101,
    /// Bottleneck blocks 3-8-36-3.
    ResNet152,
}

impl Architecture {
    /// All architectures in the order of depth.
    pub const ALL: [Self; 5] = [Self::ResNet18, Self::ResNet34, Self::ResNet50, Self::ResNet101, Self::ResNet152];

    /// Name in recipes and in torchvision.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
        }
    }

    /// Number of blocks in each of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
            Self::ResNet101 => [3, 4, 23, 3],
            Self::ResNet152 => [3, 8, 36, 3],
        }
    }

    /// Ratio of a block's output channels to its inner width: 1 for basic blocks, 4 for bottlenecks.
    pub fn expansion(self) -> usize {
        match self {
            Self::ResNet18 | Self::ResNet34 => 1,
            _ => 4,
        }
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| format!("choose one of {}", names()))
    }
}

/// First layers of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// One 3×3 convolution of stride 1 without pooling, for images of 32 pixels.
    #[default]
    Cifar,
    /// A 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2, as in torchvision.
    ImageNet,
    /// Three 3×3 convolutions, the first of stride 2, and a 3×3 max-pool of stride 2, as in timm's `resnet50c` and
    /// `resnet50d` (He et al., arXiv 1812.01187, ResNet-C).
    Deep,
}

impl Stem {
    /// Human-readable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar => "CIFAR",
            Self::ImageNet => "ImageNet",
            Self::Deep => "deep",
        }
    }

    /// Side of the convolution kernels.
    pub fn kernel(self) -> usize {
        match self {
            Self::ImageNet => 7,
            Self::Cifar | Self::Deep => 3,
        }
    }
}

/// Settings of a [`ResNet`](super::ResNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Depth of the network. Published: `resnet18` on CIFAR-10, `resnet50` on ImageNet.
    pub architecture: Architecture,
    /// First layers of the network. Published: `cifar` on CIFAR-10, `imagenet` on ImageNet.
    pub stem: Stem,
    /// Channels of the first stage. The four stages have 1, 2, 4 and 8 times as many (times 4 with bottlenecks).
    /// Published: 64.
    pub width: usize,
    /// Zero padding of the stem's first convolution. If absent, half its kernel (1 for `cifar` and `deep`, 3 for
    /// `imagenet`). The CIFAR ResNets of solo-learn have 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_padding: Option<usize>,
    /// Channels of the three convolutions of the stem `deep`. If absent, `width`/2, `width`/2 and `width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_widths: Option<[usize; 3]>,
    /// Whether a ReLU follows the stem's last batch norm. It is missing if the children of a ResNet with functional
    /// ReLUs were put into a Sequential, as in lightly.
    #[serde(skip_serializing_if = "is_true")]
    pub stem_relu: bool,
    /// Whether the stem ends with a max-pool. If absent, it does for `imagenet` and `deep` but not for `cifar`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pool: Option<bool>,
    /// Number of channel groups of the 3×3 convolutions of bottlenecks. ResNeXt-50 (32x4d): 32.
    #[serde(skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Channels of each group in the first stage for a `width` of 64, as in torchvision. ResNeXt-50 (32x4d): 4; wide
    /// ResNet: 128.
    #[serde(skip_serializing_if = "is_standard_width")]
    pub width_per_group: usize,
    /// Whether shortcuts halve the resolution with a 2×2 average pool before a 1×1 convolution of stride 1, instead of
    /// a strided convolution (arXiv 1812.01187, ResNet-D; timm's `resnet50d`).
    #[serde(skip_serializing_if = "is_false")]
    pub average_shortcut: bool,
}

/// Channels of a group and of the first stage in the published networks.
pub(super) const STANDARD_WIDTH: usize = 64;

fn is_true(value: &bool) -> bool {
    *value
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

fn is_standard_width(value: &usize) -> bool {
    *value == STANDARD_WIDTH
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::ResNet18,
            stem: Stem::Cifar,
            width: STANDARD_WIDTH,
            stem_padding: None,
            stem_widths: None,
            stem_relu: true,
            max_pool: None,
            groups: 1,
            width_per_group: STANDARD_WIDTH,
            average_shortcut: false,
        }
    }
}

/// Human-readable description: `resnet50, ImageNet stem, width 64`, followed by all non-standard settings.
impl fmt::Display for ResNetConfig {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}, {} stem, width {}", self.architecture.name(), self.stem.name(), self.width)?;
        if let (Stem::Deep, [a, b, c]) = (self.stem, self.deep_widths()) {
            write!(f, ", stem widths {a}-{b}-{c}")?;
        }
        if self.padding() != self.stem.kernel() / 2 {
            write!(f, ", stem padding {}", self.padding())?;
        }
        if !self.stem_relu {
            f.write_str(", no ReLU after the stem")?;
        }
        match (self.pools(), self.stem) {
            (true, Stem::Cifar) => f.write_str(", with max-pool")?,
            (false, Stem::ImageNet | Stem::Deep) => f.write_str(", without max-pool")?,
            _ => {}
        }
        if self.groups != 1 {
            write!(f, ", {} groups of {}", self.groups, self.width_per_group)?;
        } else if self.width_per_group != STANDARD_WIDTH {
            write!(f, ", inner width {}", self.inner(0))?;
        }
        if self.average_shortcut {
            f.write_str(", average-pool shortcuts")?;
        }
        Ok(())
    }
}

impl ResNetConfig {
    /// One sentence for each invalid setting; empty if all are valid.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.width == 0 {
            problems.push("backbone.width is 0; give at least 1 (published: 64)".into());
        }
        let most = self.stem.kernel() - 1;
        if self.padding() > most {
            problems.push(format!(
                "backbone.stem_padding is {}; give at most {most}, one less than the kernel",
                self.padding()
            ));
        }
        if self.stem_widths.is_some() && self.stem != Stem::Deep {
            problems.push("backbone.stem_widths are those of the stem \"deep\"; leave them out or set it".into());
        }
        if self.width > 0 && self.deep_widths().contains(&0) {
            problems.push("backbone.stem_widths have a 0; give at least 1".into());
        }
        if self.groups == 0 || self.width > 0 && self.inner(0) == 0 {
            let text =
                "backbone.groups and backbone.width_per_group leave no channels; give at least 1 and 64 (published)";
            problems.push(text.into());
        }
        if self.architecture.expansion() == 1 && (self.groups != 1 || self.width_per_group != STANDARD_WIDTH) {
            problems.push(format!(
                "backbone.groups and backbone.width_per_group are for bottlenecks, which {} has not; leave them out",
                self.architecture.name()
            ));
        }
        problems
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.width * 8 * self.architecture.expansion()
    }

    /// Zero padding of the first convolution.
    pub fn padding(&self) -> usize {
        self.stem_padding.unwrap_or(self.stem.kernel() / 2)
    }

    /// Whether the stem ends with a max-pool.
    pub fn pools(&self) -> bool {
        self.max_pool.unwrap_or(self.stem != Stem::Cifar)
    }

    /// Inner width of the blocks of a stage, counted from 0: the channels between their convolutions.
    pub fn inner(&self, stage: usize) -> usize {
        match self.architecture.expansion() {
            1 => self.width << stage,
            _ => (self.width << stage) * self.width_per_group / STANDARD_WIDTH * self.groups,
        }
    }

    /// Channels of the three convolutions of a deep stem.
    pub fn deep_widths(&self) -> [usize; 3] {
        let half = self.width.div_ceil(2);
        self.stem_widths.unwrap_or([half, half, self.width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_standard_is_not_written() {
        let text = serde_json::to_string(&ResNetConfig::default()).unwrap();
        assert_eq!(text, r#"{"architecture":"resnet18","stem":"cifar","width":64}"#);
        assert_eq!(serde_json::from_str::<ResNetConfig>(&text).unwrap(), ResNetConfig::default());
        let odd = ResNetConfig { stem_padding: Some(2), stem_relu: false, max_pool: Some(true), ..Default::default() };
        assert_eq!(
            odd.to_string(),
            "resnet18, CIFAR stem, width 64, stem padding 2, no ReLU after the stem, with max-pool"
        );
        let text = serde_json::to_string(&odd).unwrap();
        assert_eq!(serde_json::from_str::<ResNetConfig>(&text).unwrap(), odd);
    }

    #[test]
    fn impossible_shapes_are_named() {
        for (config, word) in [
            (ResNetConfig { width: 0, ..Default::default() }, "width"),
            (ResNetConfig { stem_padding: Some(3), ..Default::default() }, "stem_padding"),
            (ResNetConfig { stem_widths: Some([8, 8, 8]), ..Default::default() }, "stem_widths"),
            (ResNetConfig { groups: 32, ..Default::default() }, "bottlenecks"),
            (ResNetConfig { groups: 0, architecture: Architecture::ResNet50, ..Default::default() }, "groups"),
        ] {
            assert!(config.validate()[0].contains(word), "{:?}", config.validate());
        }
    }
}
