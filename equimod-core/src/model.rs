//! From a MODEL on disk to a network with its preprocessing.
//!
//! A MODEL is a run directory, a checkpoint folder, or a `.safetensors` file: one of ours, or any ResNet under
//! torchvision's names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::backbone::{Architecture, Backbone, BackboneConfig, ResNetConfig, Stem};
use crate::build::Parameters;
use crate::checkpoint::{self, LoadReport};
use crate::collective::SingleProcess;
use crate::execution::Execution;
use crate::images::Normalisation;
use crate::method::{Method, MethodConfig, Placement};
use crate::nn::Mode;
use crate::params::ParamStore;
use crate::tape::Features;
use crate::{Error, Result};

/// The file of a checkpoint folder that holds every tensor of the method.
pub const MODEL_FILE: &str = "model.safetensors";

/// The file of a checkpoint folder that holds the target network, where there is one.
pub const TARGET_FILE: &str = "target.safetensors";

/// How pictures enter the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the square input, in pixels.
    pub size: usize,
    /// Of pixel values in [0, 1].
    pub normalisation: Normalisation,
}

/// What is written beside the weights, so that they can be used without the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Version of the program that wrote it.
    pub version: String,
    /// Backbone, objective and modules.
    pub method: MethodConfig,
    /// How pictures enter the network.
    pub preprocessing: Preprocessing,
    /// What parameter vectors hold.
    pub parameters: Parameters,
    /// Augmentation policy and parameter layout (names, statistics), as the data crate writes them.
    pub augmentation: serde_json::Value,
    /// Whether the tensors are the target network's: its backbone and the heads it needs.
    #[serde(default)]
    pub target: bool,
    /// Optimiser steps taken.
    pub step: u64,
    /// The run's seed.
    pub seed: u64,
}

/// The network of a MODEL.
enum Network {
    Method(Box<Method>),
    Backbone { backbone: Box<dyn Backbone>, params: ParamStore },
}

impl Network {
    fn of((backbone, params): (Box<dyn Backbone>, ParamStore)) -> Self {
        Self::Backbone { backbone, params }
    }
}

/// A network read from disk.
pub struct Model {
    network: Network,
    /// How pictures enter it.
    pub preprocessing: Preprocessing,
    /// What was written beside the weights; absent in files of others.
    pub description: Option<Description>,
    /// The file that was read.
    pub path: PathBuf,
    /// Hexadecimal SHA-256 of that file.
    pub sha256: String,
    /// Which tensors were found.
    pub report: LoadReport,
    /// What was passed over: checkpoints, each with the reason, and of files of others what is not the ResNet's.
    pub skipped: Vec<String>,
}

impl Model {
    /// Reads a MODEL onto `device`, in f32.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let Located { file, bytes, mut skipped } = locate(path)?;
        let model = Self::from_bytes(&bytes, &file, device)?;
        skipped.extend(model.skipped.iter().cloned());
        Ok(Self { skipped, ..model })
    }

    /// As [`load`](Self::load), from the bytes of a `.safetensors` file; `path` is what it is called.
    pub fn from_bytes(bytes: &[u8], path: &Path, device: &Device) -> Result<Self> {
        let read = checkpoint::from_bytes(bytes, path, device)?;
        let mut skipped = Vec::new();
        let (network, preprocessing, description, report) = match &read.description {
            Some(text) => from_description(text, &read.tensors, path, device)?,
            None => {
                let (tensors, outside) = without_prefix(read.tensors, path)?;
                skipped.extend(outside);
                from_names(tensors, path, device)?
            }
        };
        let (path, sha256) = (path.to_owned(), checkpoint::sha256(bytes));
        Ok(Self { network, preprocessing, description, path, sha256, report, skipped })
    }

    /// The same network before training: initial weights from the run's seed (0 where none is recorded).
    pub fn untrained(&self, device: &Device) -> Result<Self> {
        let seed = self.description.as_ref().map_or(0, |d| d.seed);
        let placement = Placement {
            seed,
            dtype: DType::F32,
            device,
            collective: SingleProcess::shared(),
            execution: Execution::default(),
        };
        let network = match &self.description {
            Some(d) => Network::Method(Box::new(Method::for_evaluation(&d.method, &d.parameters, &placement)?)),
            None => Network::of(new_backbone(&resnet_config(&self.params().tensors(""), &self.path)?, seed, device)?),
        };
        Ok(Self {
            network,
            preprocessing: self.preprocessing.clone(),
            description: self.description.clone(),
            path: self.path.clone(),
            sha256: format!("untrained-{seed}-{}", self.sha256),
            report: LoadReport::default(),
            skipped: Vec::new(),
        })
    }

    /// The backbone.
    pub fn backbone(&self) -> &dyn Backbone {
        match &self.network {
            Network::Method(method) => method.backbone(),
            Network::Backbone { backbone, .. } => backbone.as_ref(),
        }
    }

    /// The whole method, where the file holds one.
    pub fn method(&self) -> Option<&Method> {
        match &self.network {
            Network::Method(method) => Some(method),
            Network::Backbone { .. } => None,
        }
    }

    /// Every tensor of the network.
    pub fn params(&self) -> &ParamStore {
        match &self.network {
            Network::Method(method) => method.params(),
            Network::Backbone { params, .. } => params,
        }
    }

    /// A copy of the backbone and of its tensors, under torchvision's names: to train it changes nothing of this model.
    /// `seed` decides the initial values of whatever else is added to the store.
    pub fn backbone_copy(&self, seed: u64) -> Result<(Box<dyn Backbone>, ParamStore)> {
        let tensors = self.params().tensors(if self.method().is_some() { "backbone." } else { "" });
        let config = match &self.description {
            Some(description) => description.method.backbone.0.clone(),
            None => resnet_config(&tensors, &self.path)?,
        };
        let (backbone, params) = new_backbone(&config, seed, self.params().device())?;
        checkpoint::load_strict(&params, &tensors, &self.path)?;
        Ok((backbone, params))
    }

    /// Pixels (`count` pictures of `height` × `width` × 3 bytes) → features in evaluation mode.
    pub fn features(&self, pixels: &[u8], size: (usize, usize, usize)) -> Result<Features> {
        let params = self.params();
        let images = self.preprocessing.normalisation.tensor(pixels, size, params.device(), params.dtype())?;
        self.backbone().infer(&images, Mode::Eval)
    }
}

struct Located {
    file: PathBuf,
    bytes: Vec<u8>,
    skipped: Vec<String>,
}

/// Finds the weights: a file as it is; of a checkpoint folder the model; of a run the newest checkpoint that verifies.
fn locate(path: &Path) -> Result<Located> {
    if path.is_file() {
        return Ok(Located { file: path.into(), bytes: checkpoint::read_file(path)?, skipped: Vec::new() });
    }
    if !path.exists() {
        let text = "there is no such file or folder; give a run directory, a checkpoint or a .safetensors file";
        return Err(Error::checkpoint(path, text));
    }
    if path.join(checkpoint::MANIFEST).exists() {
        return from_folder(path).map(|bytes| Located { file: path.join(MODEL_FILE), bytes, skipped: Vec::new() });
    }
    newest(path)
}

fn from_folder(folder: &Path) -> Result<Vec<u8>> {
    let missing = || Error::checkpoint(folder, format!("it holds no {MODEL_FILE}; use another checkpoint"));
    checkpoint::read_folder(folder)?.remove(MODEL_FILE).ok_or_else(missing)
}

/// The folders `checkpoints/step-…` of a run, newest first.
pub fn checkpoint_folders(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("checkpoints");
    if !folder.is_dir() {
        return Err(Error::checkpoint(
            run,
            "it holds no checkpoints; give a run directory, a checkpoint or a .safetensors file",
        ));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))? {
        let path = entry.map_err(|e| Error::io("read", &folder, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("step-") {
            found.push(path);
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

fn newest(run: &Path) -> Result<Located> {
    let mut skipped = Vec::new();
    for folder in checkpoint_folders(run)? {
        match from_folder(&folder) {
            Ok(bytes) => return Ok(Located { file: folder.join(MODEL_FILE), bytes, skipped }),
            Err(error) => skipped.push(error.to_string()),
        }
    }
    let reasons = if skipped.is_empty() { String::new() } else { format!(": {}", skipped.join("; ")) };
    Err(Error::checkpoint(run, format!("no checkpoint in it is complete{reasons}")))
}

type Parts = (Network, Preprocessing, Option<Description>, LoadReport);

fn from_description(text: &str, tensors: &BTreeMap<String, Tensor>, path: &Path, device: &Device) -> Result<Parts> {
    let description: Description = serde_json::from_str(text).map_err(|e| {
        Error::checkpoint(path, format!("its description cannot be read ({e}); use a matching version"))
    })?;
    if let Some(problem) = description.method.validate().into_iter().next() {
        return Err(Error::checkpoint(path, problem));
    }
    if description.target {
        let (network, report) = target_backbone(&description, tensors, path, device)?;
        return Ok((network, description.preprocessing.clone(), Some(description), report));
    }
    let placement = Placement {
        seed: description.seed,
        dtype: DType::F32,
        device,
        collective: SingleProcess::shared(),
        execution: Execution::default(),
    };
    let method = Method::for_evaluation(&description.method, &description.parameters, &placement)?;
    // A run may have trained modules of one's own, which this program does not know: they are left out.
    let named = |module: &str| description.method.equivariance.on().iter().any(|(name, _)| *name == module);
    let known = |name: &str| match name.strip_prefix("equivariance.") {
        Some(rest) => rest.split('.').next().is_some_and(named),
        None => true,
    };
    let tensors: BTreeMap<_, _> = tensors.iter().filter(|(name, _)| known(name)).map(owned).collect();
    let report = checkpoint::load_strict(method.params(), &tensors, path)?;
    Ok((Network::Method(Box::new(method)), description.preprocessing.clone(), Some(description), report))
}

fn owned((name, tensor): (&String, &Tensor)) -> (String, Tensor) {
    (name.clone(), tensor.clone())
}

/// The backbone of a target network; its heads are left out.
fn target_backbone(
    description: &Description,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
    device: &Device,
) -> Result<(Network, LoadReport)> {
    let strip = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix("backbone.")?.to_owned(), tensor.clone()));
    let (backbone, params) = new_backbone(&description.method.backbone.0, description.seed, device)?;
    let report = checkpoint::load_strict(&params, &tensors.iter().filter_map(strip).collect(), path)?;
    Ok((Network::of((backbone, params)), report))
}

/// A ResNet of someone else: names and shapes decide the architecture; a classifier `fc` is left out.
fn from_names(mut tensors: BTreeMap<String, Tensor>, path: &Path, device: &Device) -> Result<Parts> {
    tensors.retain(|name, _| !name.starts_with("fc."));
    let config = resnet_config(&tensors, path)?;
    let (backbone, params) = new_backbone(&config, 0, device)?;
    for (name, slot) in params.iter().filter(|(name, _)| name.ends_with("num_batches_tracked")) {
        // Absent from files of old PyTorch versions, and without effect here.
        if !tensors.contains_key(name) {
            tensors.insert(name.to_owned(), slot.var.as_tensor().zeros_like()?);
        }
    }
    let report = checkpoint::load_strict(&params, &tensors, path)?;
    let preprocessing = match config.stem {
        Stem::Cifar => Preprocessing { size: 32, normalisation: Normalisation::CIFAR10 },
        Stem::ImageNet => Preprocessing { size: 224, normalisation: Normalisation::IMAGENET },
    };
    Ok((Network::of((backbone, params)), preprocessing, None, report))
}

fn new_backbone(config: &ResNetConfig, seed: u64, device: &Device) -> Result<(Box<dyn Backbone>, ParamStore)> {
    let mut params = ParamStore::new(seed, DType::F32, device);
    let collective = SingleProcess::shared();
    let config = BackboneConfig(config.clone());
    let backbone = config.build(Execution::default(), &collective, &mut params.root())?;
    Ok((backbone, params))
}

/// A tensor that every ResNet has below what other codes put before its names (`module.`, `encoder.`, `backbone.`, …).
const FIRST: &str = "layer1.0.conv1.weight";

/// The tensors without the prefix that the ResNet's names have, and what was left out because it has another one.
fn without_prefix(
    tensors: BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<(BTreeMap<String, Tensor>, Option<String>)> {
    let prefixes: Vec<String> = tensors.keys().filter_map(|name| name.strip_suffix(FIRST)).map(str::to_owned).collect();
    let prefix = match prefixes.as_slice() {
        [] => return Ok((tensors, None)),
        _ if prefixes.iter().any(String::is_empty) => return Ok((tensors, None)),
        [prefix] => prefix,
        several => {
            let text = format!("it holds several networks, under {}; keep one of them", several.join(", "));
            return Err(Error::checkpoint(path, text));
        }
    };
    let (inside, outside): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|(name, _)| name.starts_with(prefix));
    let names: Vec<&str> = outside.iter().take(3).map(|(name, _)| name.as_str()).collect();
    let told = match outside.len() {
        0 => format!("the prefix {prefix} of all names in {}", path.display()),
        count => format!("{count} tensors outside {prefix} in {}: {}, …", path.display(), names.join(", ")),
    };
    Ok((inside.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect(), Some(told)))
}

/// The ResNet whose names and shapes a file has.
fn resnet_config(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<ResNetConfig> {
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
