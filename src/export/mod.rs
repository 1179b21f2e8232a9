//! Weights for others: the backbone under torchvision's names, what describes it, and how it came about.

mod config;
pub mod folder;
pub mod run;
pub mod sums;
pub mod verify;

use equimod_core::checkpoint::{to_imported_bytes, to_torch_bytes};
use equimod_core::model::{CONFIG_FILE, Exported, HEADS_FILE, MODEL_FILE};
use equimod_core::{Model, checkpoint};
use serde_json::Value;

use crate::artifact::{CARD_FILE, Files};
use crate::card;
use run::RunFiles;

/// What is said of an export that its files do not say.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The licence of the weights, as the Hub abbreviates it.
    pub licence: Option<String>,
    /// The licence of the pictures, in words.
    pub data_licence: Option<String>,
}

impl Told {
    /// With what an earlier export says, where nothing else is said.
    fn or(&self, earlier: Option<&Value>) -> Self {
        let said = |key: &str| earlier.and_then(|earlier| Some(earlier.get(key)?.as_str()?.to_owned()));
        Self {
            licence: self.licence.clone().or_else(|| said("licence")),
            data_licence: self.data_licence.clone().or_else(|| said("data_licence")),
        }
    }
}

/// Every file of the export of `model`; `run` is what its run directory adds.
pub fn files(model: &Model, run: RunFiles, told: &Told) -> anyhow::Result<Files> {
    let told = &told.or(run.earlier.as_ref());
    let mut files = run.files;
    let backbone = weights(model)?;
    let heads = heads(model)?;
    let exported = model.description.as_ref().map(|description| Exported {
        sha256: checkpoint::sha256(&backbone),
        heads_sha256: heads.as_deref().map(checkpoint::sha256),
        description: description.clone(),
    });
    let config = config::config(model, exported.as_ref(), run.training.as_ref(), run.earlier.as_ref(), told)?;
    files.insert(CONFIG_FILE.into(), json(&config)?);
    files.insert(MODEL_FILE.into(), backbone);
    files.extend(heads.map(|bytes| (HEADS_FILE.to_owned(), bytes)));
    files.insert(sums::SUMS_FILE.into(), sums::of(&files).into_bytes());
    files.insert(CARD_FILE.into(), card::render(&files, None, None)?.into_bytes());
    Ok(files)
}

/// The backbone as a file; of weights of another code, with what was assumed of them.
pub fn weights(model: &Model) -> anyhow::Result<Vec<u8>> {
    let tensors = model.backbone_tensors();
    Ok(match &model.imported {
        Some(imported) => to_imported_bytes(&tensors, &serde_json::to_string(imported)?)?,
        None => to_torch_bytes(&tensors)?,
    })
}

/// Heads and predictors with the description, so that they can be used with the backbone.
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
