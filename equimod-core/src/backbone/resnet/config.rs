//! Which ResNet to build.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Depth of the network.
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
    /// Every architecture, in the order of depth.
    pub const ALL: [Self; 5] = [Self::ResNet18, Self::ResNet34, Self::ResNet50, Self::ResNet101, Self::ResNet152];

    /// The name in recipes and in torchvision.
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

    /// Output channels of a block over its inner width: 1 for basic blocks, 4 for bottlenecks.
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

/// The first layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// One 3×3 convolution of stride 1, no pooling: for pictures of 32 pixels.
    #[default]
    Cifar,
    /// A 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2: torchvision's.
    ImageNet,
}

impl Stem {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar => "CIFAR",
            Self::ImageNet => "ImageNet",
        }
    }
}

/// Shape of a [`ResNet`](super::ResNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Depth. Published: `resnet18` on CIFAR-10, `resnet50` on ImageNet.
    pub architecture: Architecture,
    /// First layers. Published: `cifar` on CIFAR-10, `imagenet` on ImageNet.
    pub stem: Stem,
    /// Channels of the first stage; the stages have 1, 2, 4, 8 times as many (times 4 with bottlenecks). Published: 64.
    pub width: usize,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { architecture: Architecture::ResNet18, stem: Stem::Cifar, width: 64 }
    }
}

impl ResNetConfig {
    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        match self.width {
            0 => vec!["the backbone's width is 0; give at least 1 (published: 64)".into()],
            _ => Vec::new(),
        }
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.width * 8 * self.architecture.expansion()
    }

    /// Multiplications of all convolutions on one square picture of `side` pixels.
    pub fn multiplications(&self, side: usize) -> f64 {
        let mut total = 0.0;
        let mut convolve = |side: usize, kernel: usize, stride: usize, (inputs, outputs): (usize, usize)| {
            let side = (side + kernel / 2 * 2).saturating_sub(kernel) / stride + 1;
            total += (side * side * kernel * kernel) as f64 * (inputs * outputs) as f64;
            side
        };
        let mut side = match self.stem {
            Stem::Cifar => convolve(side, 3, 1, (3, self.width)),
            // The max-pool halves the side, rounding up.
            Stem::ImageNet => convolve(side, 7, 2, (3, self.width)).div_ceil(2),
        };
        let (expansion, mut inputs) = (self.architecture.expansion(), self.width);
        for (stage, &blocks) in self.architecture.blocks().iter().enumerate() {
            let width = self.width << stage;
            for block in 0..blocks {
                let (before, outputs) = (side, width * expansion);
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                if expansion == 1 {
                    side = convolve(before, 3, stride, (inputs, width));
                    convolve(side, 3, 1, (width, width));
                } else {
                    convolve(before, 1, 1, (inputs, width));
                    side = convolve(before, 3, stride, (width, width));
                    convolve(side, 1, 1, (width, outputs));
                }
                if stride != 1 || inputs != outputs {
                    convolve(before, 1, stride, (inputs, outputs));
                }
                inputs = outputs;
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplications_are_those_that_papers_count() {
        // He et al. (arXiv 1512.03385, table 1) count 1.8e9, 3.6e9, 3.8e9 (stride on the first convolution of a bottleneck),
        // 7.6e9 and 11.3e9 with the classifier; torchvision's ResNet-50 has 4.1e9.
        let of =
            |architecture| ResNetConfig { architecture, stem: Stem::ImageNet, width: 64 }.multiplications(224) / 1e9;
        let found = Architecture::ALL.map(of);
        for (found, want) in found.into_iter().zip([1.814, 3.663, 4.087, 7.799, 11.51]) {
            assert!((found / want - 1.0).abs() < 2e-3, "{found} {want}");
        }
        // One 3×3 convolution of 3 to 64 channels more or less decides nothing: 0.56e9 on CIFAR.
        let cifar = ResNetConfig::default().multiplications(32) / 1e9;
        assert!((cifar / 0.5556 - 1.0).abs() < 2e-3, "{cifar}");
    }
}
