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
    // Where something does not fit, the report says what was taken off and left out, too.
    let report = match checkpoint::load_strict(&params, &tensors, path) {
        Ok(report) => LoadReport { prefix, left_out, ..report },
        Err(Error::Mismatch { path, report }) => {
            return Err(Error::Mismatch { path, report: Box::new(LoadReport { prefix, left_out, ..*report }) });
        }
        Err(other) => return Err(other),
    };
    let preprocessing = match config.stem {
        Stem::Cifar => Preprocessing { size: 32, normalisation: Normalisation::CIFAR10 },
        Stem::ImageNet => Preprocessing { size: 224, normalisation: Normalisation::IMAGENET },
    };
    Ok((Network::of((backbone, params)), preprocessing, report))
}

/// Blocks that may be missing or too many for a file to be compared with an architecture, key by key.
const NEAR: usize = 2;

/// The ResNet whose names and shapes a file has, or the nearest where some are missing: what does not fit is told by the
/// comparison with it.
pub(super) fn resnet_config(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<ResNetConfig> {
    let dims = |name: &str| tensors.get(name).map(Tensor::dims);
    let Some(&[_, first, ..]) = dims("layer1.0.conv1.weight").or_else(|| dims("layer1.1.conv1.weight")) else {
        let names: Vec<_> = tensors.keys().take(3).map(String::as_str).collect();
        let names = if names.is_empty() { "none at all".into() } else { format!("{}, …", names.join(", ")) };
        let text = format!("its tensors ({names}) are not those of a ResNet under torchvision's names");
        return Err(Error::checkpoint(path, text));
    };
    let (width, kernel) = match dims("conv1.weight") {
        Some(&[width, _, kernel, _]) => (width, kernel),
        _ => (first, 7),
    };
    let blocks = [1, 2, 3, 4].map(|stage| blocks(tensors, stage));
    let expansion = if tensors.contains_key("layer1.0.conv3.weight") { 4 } else { 1 };
    let distance = |a: &Architecture| a.blocks().iter().zip(blocks).map(|(a, b)| a.abs_diff(b)).sum::<usize>();
    let candidates = Architecture::ALL.into_iter().filter(|a| a.expansion() == expansion);
    let architecture = candidates.min_by_key(distance).filter(|a| distance(a) <= NEAR).ok_or_else(|| {
        let [one, two, three, four] = blocks;
        let text = format!(
            "its stages have {one}, {two}, {three} and {four} blocks, as no ResNet-18 to -152 has; it is another network"
        );
        Error::checkpoint(path, text)
    })?;
    let stem = if kernel == 7 { Stem::ImageNet } else { Stem::Cifar };
    Ok(ResNetConfig { architecture, stem, width })
}

/// Blocks of a stage, counted up to the last of which any tensor is there.
fn blocks(tensors: &BTreeMap<String, Tensor>, stage: usize) -> usize {
    let start = format!("layer{stage}.");
    let number = |name: &String| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok();
    tensors.keys().filter_map(number).max().map_or(0, |last| last + 1)
}
