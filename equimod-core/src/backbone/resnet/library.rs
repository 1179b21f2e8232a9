//! Names of ResNets in timm, torchvision and candle-transformers.

use super::config::STANDARD_WIDTH;
use super::{Architecture, ResNetConfig, Stem};
use crate::backbone::LibraryName;

/// A ResNet variant that has a name in libraries.
struct Variant {
    name: &'static str,
    architecture: Architecture,
    stem: Stem,
    /// Number of channel groups, and channels of each group in the first stage.
    groups: (usize, usize),
    average_shortcut: bool,
    torchvision: bool,
}

/// A ResNeXt or wide ResNet of timm; `torchvision` if torchvision has it, too.
const fn grouped(name: &'static str, architecture: Architecture, groups: (usize, usize), torchvision: bool) -> Variant {
    Variant { name, architecture, stem: Stem::ImageNet, groups, average_shortcut: false, torchvision }
}

/// A ResNet-C or ResNet-D, which only timm has.
const fn deep(name: &'static str, architecture: Architecture, average_shortcut: bool) -> Variant {
    Variant { name, architecture, stem: Stem::Deep, groups: (1, STANDARD_WIDTH), average_shortcut, torchvision: false }
}

const VARIANTS: [Variant; 14] = [
    grouped("resnext50_32x4d", Architecture::ResNet50, (32, 4), true),
    grouped("resnext101_32x8d", Architecture::ResNet101, (32, 8), true),
    grouped("resnext101_64x4d", Architecture::ResNet101, (64, 4), true),
    grouped("resnext101_32x4d", Architecture::ResNet101, (32, 4), false),
    grouped("wide_resnet50_2", Architecture::ResNet50, (1, 2 * STANDARD_WIDTH), true),
    grouped("wide_resnet101_2", Architecture::ResNet101, (1, 2 * STANDARD_WIDTH), true),
    deep("resnet50c", Architecture::ResNet50, false),
    deep("resnet101c", Architecture::ResNet101, false),
    deep("resnet152c", Architecture::ResNet152, false),
    deep("resnet18d", Architecture::ResNet18, true),
    deep("resnet34d", Architecture::ResNet34, true),
    deep("resnet50d", Architecture::ResNet50, true),
    deep("resnet101d", Architecture::ResNet101, true),
    deep("resnet152d", Architecture::ResNet152, true),
];

/// Name of a backbone in libraries; `None` if it has none.
pub(super) fn library_name(backbone: &ResNetConfig) -> Option<LibraryName> {
    // Compares after filling in absent settings, so that explicit and absent defaults are equal.
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
