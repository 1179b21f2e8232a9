//! ResNets from other codebases: names and shapes determine the architecture; traces and assumptions settle the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::assumptions::{Choices, Imported, settle};
use super::origin::{Origin, Traces, lookalike, recognize};
use super::{Network, new_backbone, stranger};
use crate::backbone::{Architecture, BackboneConfig, ResNetConfig, Stem};
use crate::checkpoint::{self, LoadReport};
use crate::images::Preprocessing;
use crate::names::{Renamed, renamed};
use crate::{Error, Result};

/// Content of a file from another codebase.
#[derive(Default)]
pub(super) struct ForeignFile {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Tensors that are not supported, each with the reason.
    pub not_read: Vec<String>,
    /// Content other than tensors, in words.
    pub beside: Vec<String>,
    /// Settings stored with the tensors.
    pub settings: Value,
    /// Record that `equimod import` wrote into the file.
    pub imported: Option<Imported>,
    /// Description in a file next to it.
    pub described: Option<Origin>,
}

/// The network found in such a file.
pub(super) struct ImportedNetwork {
    pub network: Network,
    pub preprocessing: Preprocessing,
    pub report: LoadReport,
    pub imported: Imported,
}

/// The ResNet in a file from another codebase, without its classifier or heads. If there are several, `prefix` selects
/// one.
pub(super) fn from_names(
    file: ForeignFile,
    (prefix, choices): (Option<&str>, &Choices),
    path: &Path,
    device: &Device,
) -> Result<ImportedNetwork> {
    let ForeignFile { tensors, not_read, beside, settings, imported, described } = file;
    let names: Vec<String> = tensors.keys().cloned().collect();
    let renamed = renamed(tensors, prefix, path)?;
    let first_stage = renamed.first_stage;
    let Renamed { mut tensors, prefix, left_out, .. } = renamed;
    let explained = |error: Error| explained(error, &not_read, path);
    let shapes = resnet_config(&tensors, path).map_err(explained)?;
    let traces = Traces {
        settings: &settings,
        arguments: arguments_beside(path),
        names: names.iter().map(String::as_str).collect(),
        is_small_stem: shapes.stem == Stem::Cifar,
        first_stage,
        path,
    };
    let origin = described.or_else(|| recognize(&traces));
    refuse_lookalikes(origin.as_ref(), &traces)?;
    let (config, preprocessing, assumptions) =
        settle(shapes, first_stage, (imported.as_ref(), origin.as_ref(), choices));
    check(&config, &preprocessing, path)?;
    let network = BackboneConfig::ResNet(config.clone());
    let (backbone, params) = new_backbone(&network, preprocessing.size, 0, device, None)?;
    for (name, slot) in params.iter().filter(|(name, _)| name.ends_with("num_batches_tracked")) {
        // Missing from files of old PyTorch versions, and without effect here.
        if !tensors.contains_key(name) {
            tensors.insert(name.to_owned(), slot.var.as_tensor().zeros_like()?);
        }
    }
    let complete = |report: LoadReport| LoadReport { prefix, left_out, not_read: not_read.clone(), beside, ..report };
    // For a mismatch, the report also lists the removed prefix and the tensors left out.
    let report = match checkpoint::load_strict(&params, &tensors, path) {
        Ok(report) => complete(report),
        Err(Error::Mismatch { path, report }) => {
            let stranger = stranger::named(&tensors).map(str::to_owned);
            return Err(Error::Mismatch { path, report: Box::new(LoadReport { stranger, ..complete(*report) }) });
        }
        Err(other) => return Err(other),
    };
    let code = origin.map(|origin| origin.code).or(imported.and_then(|imported| imported.code));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let imported = Imported { version, backbone: config, preprocessing: preprocessing.clone(), code, assumptions };
    Ok(ImportedNetwork { network: Network::of((backbone, params), network), preprocessing, report, imported })
}

/// Adds the tensors that are not supported, if any, to an error.
fn explained(error: Error, not_read: &[String], path: &Path) -> Error {
    match (error, not_read) {
        (Error::Checkpoint { reason, .. }, [first, rest @ ..]) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Error::checkpoint(path, format!("{reason}; of its tensors, these are not read: {first}{more}"))
        }
        (error, _) => error,
    }
}

/// Arguments of solo-learn, which it stores next to its checkpoints.
fn arguments_beside(path: &Path) -> Option<Value> {
    /// Upper bound on the size of such a file, in bytes.
    const MOST: u64 = 1 << 20;
    let file = path.with_file_name("args.json");
    let is_small = fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() <= MOST);
    is_small.then(|| serde_json::from_slice(&fs::read(&file).ok()?).ok()).flatten()
}

/// Rejects networks that have the tensor names of a ResNet but compute something else, by their name.
fn refuse_lookalikes(origin: Option<&Origin>, traces: &Traces) -> Result<()> {
    let called = origin.and_then(|origin| origin.architecture.clone());
    if let Some(what) = called.as_deref().and_then(lookalike) {
        return Err(Error::checkpoint(traces.path, what));
    }
    let name = traces.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match lookalike(&name) {
        Some(what) => {
            Err(Error::checkpoint(traces.path, format!("by its name, {what} (rename the file if that is wrong)")))
        }
        None => Ok(()),
    }
}

fn check(config: &ResNetConfig, preprocessing: &Preprocessing, path: &Path) -> Result<()> {
    let mut problems = [config.validate(), preprocessing.normalization.validate()].concat();
    if preprocessing.size == 0 {
        problems.push("the input size is 0; give at least 1".into());
    }
    problems.into_iter().next().map_or(Ok(()), |problem| Err(Error::checkpoint(path, problem)))
}

/// Largest number of missing or extra blocks for which a file is still compared with an architecture.
const NEAR: usize = 2;

/// The ResNet with the names and shapes of a file, or the closest one if some are missing. The comparison with it then
/// reports the mismatches.
fn resnet_config(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<ResNetConfig> {
    let shapes = Shapes(tensors);
    let Some(&[_, first, ..]) = shapes.of("layer1.0.conv1.weight").or_else(|| shapes.of("layer1.1.conv1.weight"))
    else {
        let names: Vec<_> = tensors.keys().take(3).map(String::as_str).collect();
        let names = if names.is_empty() { "none at all".into() } else { format!("{}, …", names.join(", ")) };
        let what = stranger::named(tensors).map(|what| format!("; it is {what}")).unwrap_or_default();
        let text = format!("its tensors ({names}) are not those of a ResNet under torchvision's names{what}");
        return Err(Error::checkpoint(path, text));
    };
    let blocks = [1, 2, 3, 4].map(|stage| shapes.blocks(stage));
    let expansion = if tensors.contains_key("layer1.0.conv3.weight") { 4 } else { 1 };
    let distance = |a: &Architecture| a.blocks().iter().zip(blocks).map(|(a, b)| a.abs_diff(b)).sum::<usize>();
    let candidates = Architecture::ALL.into_iter().filter(|a| a.expansion() == expansion);
    let architecture = candidates.min_by_key(distance).filter(|a| distance(a) <= NEAR).ok_or_else(|| {
        let [one, two, three, four] = blocks;
        let text = format!(
            "its stages have {one}, {two}, {three} and {four} blocks, as no ResNet-18 to -152 has; it is another \
             network"
        );
        Error::checkpoint(path, text)
    })?;
    let (stem, stem_widths) = shapes.stem();
    let width = shapes.width(expansion).unwrap_or(first);
    let (groups, width_per_group) = shapes.groups(expansion, width);
    let average_shortcut = (1..=4).any(|stage| shapes.of(&format!("layer{stage}.0.downsample.2.weight")).is_some());
    let config =
        ResNetConfig { architecture, stem, width, groups, width_per_group, average_shortcut, ..Default::default() };
    let stem_widths = stem_widths.filter(|widths| *widths != config.deep_widths());
    Ok(ResNetConfig { stem_widths, ..config })
}

/// Shapes of tensors, by name.
struct Shapes<'a>(&'a BTreeMap<String, Tensor>);

impl Shapes<'_> {
    fn of(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Tensor::dims)
    }

    /// The stem, and its widths if it is a deep one.
    fn stem(&self) -> (Stem, Option<[usize; 3]>) {
        let outputs = |name: &str| self.of(name).map(|dims| dims[0]);
        let deep = [outputs("conv1.0.weight"), outputs("conv1.3.weight"), outputs("conv1.6.weight")];
        match (deep, self.of("conv1.weight")) {
            ([Some(a), Some(b), Some(c)], _) => (Stem::Deep, Some([a, b, c])),
            (_, Some(&[_, _, kernel, _])) if kernel != 7 => (Stem::Cifar, None),
            _ => (Stem::ImageNet, None),
        }
    }

    /// Channels of the first stage: the output channels of its first block, divided by the expansion.
    fn width(&self, expansion: usize) -> Option<usize> {
        let last = if expansion == 1 { "layer1.0.conv2.weight" } else { "layer1.0.conv3.weight" };
        match *self.of(last)? {
            [outputs, ..] if outputs.is_multiple_of(expansion) => Some(outputs / expansion),
            _ => None,
        }
    }

    /// Number of groups of the bottlenecks' 3×3 convolutions, and channels of each group for a width of 64.
    fn groups(&self, expansion: usize, width: usize) -> (usize, usize) {
        let standard = ResNetConfig::default();
        let convolution = self.of("layer1.0.conv2.weight").filter(|_| expansion > 1);
        let Some(&[inner, each, ..]) = convolution.filter(|dims| dims[1] > 0 && width > 0) else {
            return (standard.groups, standard.width_per_group);
        };
        let groups = (inner / each).max(1);
        (groups, (each * standard.width_per_group).div_ceil(width))
    }

    /// Number of blocks of a stage, up to the last one that has any tensor.
    fn blocks(&self, stage: usize) -> usize {
        let start = format!("layer{stage}.");
        let number = |name: &String| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok();
        self.0.keys().filter_map(number).max().map_or(0, |last| last + 1)
    }
}
