//! ResNets of others: names and shapes decide the architecture.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::{Network, Preprocessing, new_backbone};
use crate::backbone::{Architecture, ResNetConfig, Stem};
use crate::checkpoint::{self, LoadReport};
use crate::images::Normalisation;
use crate::names::{Renamed, renamed};
use crate::{Error, Result};

/// A ResNet of someone else; what stands beside it in the file (a classifier, heads) is left out. Of several, `prefix` says
/// which.
pub(super) fn from_names(
    tensors: BTreeMap<String, Tensor>,
    prefix: Option<&str>,
    path: &Path,
    device: &Device,
) -> Result<(Network, Preprocessing, LoadReport)> {
    let Renamed { mut tensors, prefix, left_out } = renamed(tensors, prefix, path)?;
    let config = resnet_config(&tensors, path)?;
    let (backbone, params) = new_backbone(&config, 0, device)?;
    for (name, slot) in params.iter().filter(|(name, _)| name.ends_with("num_batches_tracked")) {
        // Absent from files of old PyTorch versions, and without effect here.
        if !tensors.contains_key(name) {
            tensors.insert(name.to_owned(), slot.var.as_tensor().zeros_like()?);
        }
    }
    let report = LoadReport { prefix, left_out, ..checkpoint::load_strict(&params, &tensors, path)? };
    let preprocessing = match config.stem {
        Stem::Cifar => Preprocessing { size: 32, normalisation: Normalisation::CIFAR10 },
        Stem::ImageNet => Preprocessing { size: 224, normalisation: Normalisation::IMAGENET },
    };
    Ok((Network::of((backbone, params)), preprocessing, report))
}

/// The ResNet whose names and shapes a file has.
pub(super) fn resnet_config(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<ResNetConfig> {
    let foreign = || {
        let names: Vec<_> = tensors.keys().take(3).map(String::as_str).collect();
        let names = if names.is_empty() { "none at all".into() } else { format!("{}, …", names.join(", ")) };
        Error::checkpoint(path, format!("its tensors ({names}) are not those of a ResNet under torchvision's names"))
    };
    let &[width, 3, kernel, _] = tensors.get("conv1.weight").ok_or_else(foreign)?.dims() else {
        return Err(foreign());
    };
    let count =
        |stage: usize| (0..).take_while(|b| tensors.contains_key(&format!("layer{stage}.{b}.conv1.weight"))).count();
    let blocks = [count(1), count(2), count(3), count(4)];
    let expansion = if tensors.contains_key("layer1.0.conv3.weight") { 4 } else { 1 };
    let fits = |a: &Architecture| a.blocks() == blocks && a.expansion() == expansion;
    let architecture = Architecture::ALL.into_iter().find(fits).ok_or_else(|| {
        let [one, two, three, four] = blocks;
        let text = format!(
            "its stages have {one}, {two}, {three} and {four} blocks, as no ResNet-18 to -152 has; tensors are missing, or it is \
             another network"
        );
        Error::checkpoint(path, text)
    })?;
    let stem = if kernel == 7 { Stem::ImageNet } else { Stem::Cifar };
    Ok(ResNetConfig { architecture, stem, width })
}
