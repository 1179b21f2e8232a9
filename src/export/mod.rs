//! Export of weights for sharing: the backbone with torchvision's names, its configuration, and records of its
//! training.

mod config;
pub mod folder;
pub mod hub_results;
pub mod license;
pub mod run;
pub mod scan;
pub mod sums;
pub mod verify;

use equimod_core::checkpoint::{to_imported_bytes, to_torch_bytes};
use equimod_core::model::{CONFIG_FILE, Exported, HEADS_FILE, MODEL_FILE};
use equimod_core::{Model, checkpoint};
use serde_json::Value;

use crate::artifact::{CARD_FILE, Files};
use crate::card;
use run::RunFiles;

/// Licenses that the user stated.
#[derive(Clone, Debug, Default)]
pub struct Licenses {
    /// License of the weights, as the Hub abbreviates it.
    pub weights: Option<String>,
    /// License of the images, in words.
    pub data: Option<String>,
}

impl Licenses {
    /// Fills in licenses that an earlier export states.
    fn or_earlier(&self, earlier: Option<&Value>) -> Self {
        let stated = |key: &str| earlier.and_then(|earlier| Some(earlier.get(key)?.as_str()?.to_owned()));
        Self {
            weights: self.weights.clone().or_else(|| stated("license").or_else(|| stated("licence"))),
            data: self.data.clone().or_else(|| stated("data_license").or_else(|| stated("data_licence"))),
        }
    }
}

/// All files of the export of `model`, including those from its run directory.
///
/// # Errors
///
/// If a tensor or a description cannot be written.
pub fn files(model: &Model, run: RunFiles, licenses: &Licenses) -> anyhow::Result<Files> {
    let licenses = &licenses.or_earlier(run.earlier.as_ref());
    let mut files = run.files;
    let backbone = weights(model)?;
    let heads = heads(model)?;
    let exported = model.description.as_ref().map(|description| Exported {
        sha256: checkpoint::sha256(&backbone),
        heads_sha256: heads.as_deref().map(checkpoint::sha256),
        description: description.clone(),
    });
    let config = config::config(model, exported.as_ref(), run.training.as_ref(), run.earlier.as_ref(), licenses)?;
    files.insert(CONFIG_FILE.into(), json(&config)?);
    files.insert(MODEL_FILE.into(), backbone);
    files.extend(heads.map(|bytes| (HEADS_FILE.to_owned(), bytes)));
    files.insert(sums::SUMS_FILE.into(), sums::of(&files).into_bytes());
    files.insert(CARD_FILE.into(), card::render(&files, None, None)?.into_bytes());
    Ok(files)
}

/// The backbone as a file; for weights of another code base, with the assumptions that were made about them.
///
/// # Errors
///
/// If a tensor cannot be written.
pub fn weights(model: &Model) -> anyhow::Result<Vec<u8>> {
    let tensors = model.backbone_tensors();
    Ok(match &model.imported {
        Some(imported) => to_imported_bytes(&tensors, &serde_json::to_string(imported)?)?,
        None => to_torch_bytes(&tensors)?,
    })
}

/// Projection heads and predictors with the description of the model, if there are any.
fn heads(model: &Model) -> anyhow::Result<Option<Vec<u8>>> {
    let tensors = model.head_tensors();
    let Some(description) = model.description.as_ref().filter(|_| !tensors.is_empty()) else { return Ok(None) };
    Ok(Some(checkpoint::to_bytes(&tensors, &serde_json::to_string(description)?)?))
}

fn json(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
