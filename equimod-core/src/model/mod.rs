//! Loading of a MODEL from disk, as a network with its preprocessing.
//!
//! A MODEL is a run directory, a checkpoint folder, an export, or a `.safetensors` file. Such a file was written by
//! this crate, or holds any ResNet under torchvision's tensor names or variants of them from other codebases.

mod assumptions;
mod folder;
mod foreign;
mod locate;
mod origin;
mod stranger;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

pub use assumptions::{Assumption, Certainty, Choices, Imported};
pub use folder::{CONFIG_FILE, Exported, HEADS_FILE};
pub use locate::{check_location, checkpoint_folders, files_of_pytorch};

use crate::backbone::{Backbone, BackboneBuilder, BackboneConfig, BackboneContext};
use crate::build::Placement;
use crate::checkpoint::{self, LoadReport, TensorFile};
use crate::collective::SingleProcess;
use crate::execution::Execution;
use crate::images::Preprocessing;
use crate::method::{Extensions, Method, MethodConfig};
use crate::nn::Mode;
use crate::parameters::Parameters;
use crate::params::ParamStore;
use crate::tape::Features;
use crate::torch_file::{self, TorchFile};
use crate::{Error, Result, host};
use folder::FolderConfig;
use foreign::{ForeignFile, ImportedNetwork, from_names};
use locate::{Located, locate};
use origin::Origin;

/// Name of the file in a checkpoint folder that holds all tensors of the method.
pub const MODEL_FILE: &str = "model.safetensors";

/// Name of the file in a checkpoint folder that holds the target network, if there is one.
pub const TARGET_FILE: &str = "target.safetensors";

/// Prefix of the tensor names of a method's backbone.
const BACKBONE: &str = "backbone.";

/// Description stored with the weights, so that they can be used without the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Version of the program that wrote it.
    pub version: String,
    /// Settings of backbone, objective and modules.
    pub method: MethodConfig,
    /// Input size and normalization.
    pub preprocessing: Preprocessing,
    /// Values of the augmentation parameter vectors.
    pub parameters: Parameters,
    /// Augmentation policy and parameter layout (names, statistics), as serialized by the data crate.
    pub augmentation: serde_json::Value,
    /// Whether the tensors belong to the target network: its backbone and heads.
    #[serde(default)]
    pub target: bool,
    /// Number of optimizer steps taken.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
}

/// Network of a MODEL.
enum Network {
    Method(Box<Method>),
    Backbone { backbone: Box<dyn Backbone>, params: Box<ParamStore>, config: BackboneConfig },
}

impl Network {
    fn of((backbone, params): (Box<dyn Backbone>, ParamStore), config: BackboneConfig) -> Self {
        Self::Backbone { backbone, params: Box::new(params), config }
    }
}

/// A network loaded from disk.
pub struct Model {
    network: Network,
    /// Input size and normalization.
    pub preprocessing: Preprocessing,
    /// Description stored with the weights; `None` for files from other codebases.
    pub description: Option<Description>,
    /// File that was read.
    pub path: PathBuf,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
    /// Comparison of the file's tensors with the network.
    pub report: LoadReport,
    /// Skipped parts: checkpoints, each with the reason, and content of files from other codebases that is not part of
    /// the ResNet.
    pub skipped: Vec<String>,
    /// Whether the preprocessing is unknown and was guessed from the stem.
    pub guessed: bool,
    /// Properties of weights from another codebase that names and shapes do not determine, and the assumptions made.
    pub imported: Option<Imported>,
    /// Builder of a custom backbone.
    custom: Option<BackboneBuilder>,
}

impl Model {
    /// Loads a MODEL onto `device` in f32.
    ///
    /// # Errors
    ///
    /// If there is no valid MODEL at `path`, a file cannot be read, its tensors do not fit the network, or the backbone
    /// is a custom one.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::located(locate(path, MODEL_FILE)?, device, None)
    }

    /// As [`load`](Self::load), for a MODEL with a custom backbone, which `backbone` builds.
    ///
    /// # Errors
    ///
    /// As for `load`, and if the MODEL has another kind of backbone or the builder fails.
    pub fn load_with_backbone(path: &Path, device: &Device, backbone: BackboneBuilder) -> Result<Self> {
        Self::located(locate(path, MODEL_FILE)?, device, Some(backbone))
    }

    /// Loads the target network of a run or a checkpoint.
    ///
    /// # Errors
    ///
    /// As for `load`, and if there is no target network.
    pub fn load_target(path: &Path, device: &Device) -> Result<Self> {
        let model = Self::located(locate(path, TARGET_FILE)?, device, None)?;
        match model.description.as_ref().is_some_and(|description| description.target) {
            true => Ok(model),
            false => Err(Error::checkpoint(&model.path, "it is no target network; give the run or the checkpoint")),
        }
    }

    fn located(located: Located, device: &Device, custom: Option<BackboneBuilder>) -> Result<Self> {
        let Located { file, bytes, config, mut skipped } = located;
        let config = config.map(|text| FolderConfig::read(&text, &file)).transpose()?.unwrap_or_default();
        let mut model = match &config.equimod {
            Some(exported) => from_export(exported, &bytes, &file, device, custom)?,
            None => Self::read(&bytes, &file, config.described(), device, custom)?,
        };
        skipped.append(&mut model.skipped);
        Ok(Self { skipped, ..model })
    }

    /// As [`load`](Self::load), from the bytes of a `.safetensors` file; `path` names the file in errors.
    ///
    /// # Errors
    ///
    /// If the bytes are no safetensors file, or its tensors do not fit a network.
    pub fn from_bytes(bytes: &[u8], path: &Path, device: &Device) -> Result<Self> {
        Self::read(bytes, path, None, device, None)
    }

    fn read(
        bytes: &[u8],
        path: &Path,
        beside: Option<Origin>,
        device: &Device,
        custom: Option<BackboneBuilder>,
    ) -> Result<Self> {
        let read = checkpoint::from_bytes(bytes, path, device)?;
        if let Some(text) = read.description {
            let description = described(&text, path)?;
            return Ok(from_description(&description, read.tensors, path, device, custom)?.of(path, bytes));
        }
        let file = ForeignFile { described: beside, ..foreign(read, path)? };
        Ok(Self::of_others(file, (None, &Choices::default()), path, device)?.of(path, bytes))
    }

    /// Loads a ResNet from another codebase, from a PyTorch file ([`torch_file`]) or a `.safetensors` file. If the file
    /// holds several networks, `prefix` selects one. `choices` override what the file records and what would be
    /// assumed.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, holds no ResNet or several without a `prefix`, or its tensors do not fit.
    pub fn import(path: &Path, prefix: Option<&str>, choices: &Choices, device: &Device) -> Result<Self> {
        let bytes = checkpoint::read_file(path)?;
        let file = match torch_file::is_torch(&bytes) {
            true => {
                let TorchFile { tensors, not_read, beside, settings } = torch_file::read(&bytes, path)?;
                ForeignFile { tensors, not_read, beside, settings, ..ForeignFile::default() }
            }
            false => foreign(checkpoint::from_bytes(&bytes, path, device)?, path)?,
        };
        Ok(Self::of_others(file, (prefix, choices), path, device)?.of(path, &bytes))
    }

    fn of_others(file: ForeignFile, chosen: (Option<&str>, &Choices), path: &Path, device: &Device) -> Result<Self> {
        let ImportedNetwork { network, preprocessing, report, imported } = from_names(file, chosen, path, device)?;
        let (skipped, guessed) = (report.warnings(path), imported.is_input_assumed());
        Ok(Self { guessed, skipped, imported: Some(imported), ..Self::new(network, preprocessing, None, report) })
    }

    fn new(
        network: Network,
        preprocessing: Preprocessing,
        description: Option<Description>,
        report: LoadReport,
    ) -> Self {
        let (path, sha256, skipped, imported, custom) = Default::default();
        Self { network, preprocessing, description, path, sha256, report, skipped, guessed: false, imported, custom }
    }

    fn of(self, path: &Path, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), sha256: checkpoint::sha256(bytes), ..self }
    }

    /// The same network before training, with initial weights from the run's seed (0 if none is recorded).
    ///
    /// # Errors
    ///
    /// If the network cannot be built.
    pub fn untrained(&self, device: &Device) -> Result<Self> {
        let seed = self.description.as_ref().map_or(0, |d| d.seed);
        let network = match &self.description {
            Some(description) => Network::Method(Box::new(untrained_method(description, device, self.custom.clone())?)),
            None => Network::of(self.new_backbone(seed, device)?, self.backbone_config()?),
        };
        Ok(Self {
            network,
            preprocessing: self.preprocessing.clone(),
            description: self.description.clone(),
            path: self.path.clone(),
            sha256: format!("untrained-{seed}-{}", self.sha256),
            report: LoadReport::default(),
            skipped: Vec::new(),
            guessed: self.guessed,
            imported: self.imported.clone(),
            custom: self.custom.clone(),
        })
    }

    fn new_backbone(&self, seed: u64, device: &Device) -> Result<(Box<dyn Backbone>, ParamStore)> {
        new_backbone(&self.backbone_config()?, self.preprocessing.size, seed, device, self.custom.as_ref())
    }

    /// The backbone.
    pub fn backbone(&self) -> &dyn Backbone {
        match &self.network {
            Network::Method(method) => method.backbone(),
            Network::Backbone { backbone, .. } => backbone.as_ref(),
        }
    }

    /// The whole method; `None` if the file holds only a backbone.
    pub fn method(&self) -> Option<&Method> {
        match &self.network {
            Network::Method(method) => Some(method),
            Network::Backbone { .. } => None,
        }
    }

    /// All tensors of the network.
    pub fn params(&self) -> &ParamStore {
        match &self.network {
            Network::Method(method) => method.params(),
            Network::Backbone { params, .. } => params,
        }
    }

    /// Kind and settings of the backbone.
    ///
    /// # Errors
    ///
    /// If the model does not record them.
    pub fn backbone_config(&self) -> Result<BackboneConfig> {
        match (&self.description, &self.network) {
            (Some(description), _) => Ok(description.method.backbone.clone()),
            (None, Network::Backbone { config, .. }) => Ok(config.clone()),
            (None, Network::Method(_)) => Err(Error::checkpoint(&self.path, "it does not say what its backbone is")),
        }
    }

    /// A deep copy of the backbone and its tensors, under torchvision's names, so that training it leaves this model
    /// unchanged. `seed` determines the initial values of anything else that is added to the store.
    ///
    /// # Errors
    ///
    /// If the backbone cannot be built, or a tensor operation fails.
    pub fn backbone_copy(&self, seed: u64) -> Result<(Box<dyn Backbone>, ParamStore)> {
        let tensors = self.backbone_tensors();
        let (backbone, params) = self.new_backbone(seed, self.params().device())?;
        checkpoint::load_strict(&params, &tensors, &self.path)?;
        Ok((backbone, params))
    }

    /// The backbone's tensors by their names in torchvision.
    pub fn backbone_tensors(&self) -> BTreeMap<String, Tensor> {
        self.params().tensors(if self.method().is_some() { BACKBONE } else { "" })
    }

    /// Names of the tensors that hold NaN or infinite values.
    ///
    /// # Errors
    ///
    /// If a tensor operation or the transfer from the device fails.
    pub fn not_finite(&self) -> Result<Vec<String>> {
        let (mut names, mut sums) = (Vec::new(), Vec::new());
        for (name, slot) in self.params().iter().filter(|(_, slot)| slot.var.dtype().is_float()) {
            names.push(name);
            let values = slot.var.as_detached_tensor();
            sums.push(values.to_dtype(host::widest(values.device()))?.abs()?.sum_all()?);
        }
        let sums = host::read(&sums.iter().collect::<Vec<_>>())?;
        Ok(names.into_iter().zip(sums).filter(|(_, sum)| !sum.is_finite()).map(|(name, _)| name.to_owned()).collect())
    }

    /// The tensors of heads and predictors by their full names; empty if there is only a backbone.
    pub fn head_tensors(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = self.params().tensors("");
        tensors.retain(|name, _| self.method().is_some() && !name.starts_with(BACKBONE));
        tensors
    }

    /// 8-bit RGB pixels of images of `size` (count, height, width), `count·height·width·3` bytes → features in
    /// evaluation mode, `[count, features]` pooled.
    ///
    /// # Errors
    ///
    /// If the number of bytes does not match `size`, or a tensor operation fails.
    pub fn features(&self, pixels: &[u8], size: (usize, usize, usize)) -> Result<Features> {
        let params = self.params();
        let images = self.preprocessing.normalization.tensor(pixels, size, params.device(), params.dtype())?;
        self.backbone().infer(&images, Mode::Eval)
    }
}

/// Tensors from another codebase with the record of `equimod import`, if there is one.
fn foreign(file: TensorFile, path: &Path) -> Result<ForeignFile> {
    let unusable = |e| {
        let text = format!("what `equimod import` wrote into it cannot be read ({e}); import the weights again");
        Error::checkpoint(path, text)
    };
    let imported = file.imported.map(|text| serde_json::from_str(&text).map_err(unusable)).transpose()?;
    Ok(ForeignFile { tensors: file.tensors, not_read: file.not_read, imported, ..ForeignFile::default() })
}

fn described(text: &str, path: &Path) -> Result<Description> {
    serde_json::from_str(text)
        .map_err(|e| Error::checkpoint(path, format!("its description cannot be read ({e}); use a matching version")))
}

/// Loads an export: the backbone in one file, its description in a second, heads in a third.
fn from_export(
    exported: &Exported,
    bytes: &[u8],
    path: &Path,
    device: &Device,
    custom: Option<BackboneBuilder>,
) -> Result<Model> {
    let differs = |file: &Path| {
        let text = format!("it is not the file that {CONFIG_FILE} describes (its SHA-256 differs); use another copy");
        Error::checkpoint(file, text)
    };
    if checkpoint::sha256(bytes) != exported.sha256 {
        return Err(differs(path));
    }
    let read = checkpoint::from_bytes(bytes, path, device)?;
    let mut tensors: BTreeMap<_, _> =
        read.tensors.into_iter().map(|(name, tensor)| (format!("{BACKBONE}{name}"), tensor)).collect();
    let mut description = exported.description.clone();
    if let Some(sum) = &exported.heads_sha256 {
        let file = path.with_file_name(HEADS_FILE);
        let heads = checkpoint::read_file(&file)?;
        if checkpoint::sha256(&heads) != *sum {
            return Err(differs(&file));
        }
        tensors.extend(checkpoint::from_bytes(&heads, &file, device)?.tensors);
    }
    description.target |= exported.heads_sha256.is_none();
    let model = from_description(&description, tensors, path, device, custom)?;
    Ok(Model { description: Some(exported.description.clone()), ..model }.of(path, bytes))
}

fn from_description(
    description: &Description,
    mut tensors: BTreeMap<String, Tensor>,
    path: &Path,
    device: &Device,
    custom: Option<BackboneBuilder>,
) -> Result<Model> {
    let size = description.preprocessing.size;
    if let Some(problem) = description.method.validate(size).into_iter().next() {
        return Err(Error::checkpoint(path, problem));
    }
    let (network, report) = match description.target {
        true => alone(description, tensors, path, device, custom.as_ref())?,
        false => {
            let method = untrained_method(description, device, custom.clone())?;
            // Modules defined outside of this crate are unknown here; their tensors are left out.
            let named = |module: &str| description.method.equivariance.on().iter().any(|(name, _)| *name == module);
            tensors.retain(|name, _| match name.strip_prefix("equivariance.") {
                Some(rest) => rest.split('.').next().is_some_and(named),
                None => true,
            });
            let report = checkpoint::load_strict(method.params(), &tensors, path)?;
            (Network::Method(Box::new(method)), report)
        }
    };
    let model = Model::new(network, description.preprocessing.clone(), Some(description.clone()), report);
    Ok(Model { custom, ..model })
}

/// The method of a description with initial weights, without a target network.
fn untrained_method(description: &Description, device: &Device, custom: Option<BackboneBuilder>) -> Result<Method> {
    let placement = Placement {
        seed: description.seed,
        dtype: DType::F32,
        device,
        image_size: description.preprocessing.size,
        collective: SingleProcess::shared(),
        execution: Execution::default(),
    };
    let extensions = Extensions { backbone: custom, modules: None };
    Method::for_evaluation(&description.method, &description.parameters, &placement, &extensions)
}

/// The backbone without heads, from a target network or an export without heads.
fn alone(
    description: &Description,
    tensors: BTreeMap<String, Tensor>,
    path: &Path,
    device: &Device,
    custom: Option<&BackboneBuilder>,
) -> Result<(Network, LoadReport)> {
    let strip = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(BACKBONE)?.to_owned(), tensor));
    let (config, size) = (&description.method.backbone, description.preprocessing.size);
    let (backbone, params) = new_backbone(config, size, description.seed, device, custom)?;
    let report = checkpoint::load_strict(&params, &tensors.into_iter().filter_map(strip).collect(), path)?;
    Ok((Network::of((backbone, params), config.clone()), report))
}

fn new_backbone(
    config: &BackboneConfig,
    image_size: usize,
    seed: u64,
    device: &Device,
    custom: Option<&BackboneBuilder>,
) -> Result<(Box<dyn Backbone>, ParamStore)> {
    let mut params = ParamStore::new(seed, DType::F32, device);
    let collective = SingleProcess::shared();
    let context = BackboneContext { image_size, execution: Execution::default(), collective: &collective };
    let backbone = config.build(&context, custom, &mut params.root())?;
    Ok((backbone, params))
}
