//! From a MODEL, as it is named, to a network.

use std::path::{Path, PathBuf};

use anyhow::bail;
use candle_core::Device;
use equimod_core::{Error, Model};

use crate::hub::{self, Weights};
use crate::output;
use crate::reference::{ModelReference, PREFIX};

/// Opens a MODEL, fetching it if it is on the Hub, and tells what was passed over.
pub fn open(model: &Path, device: &Device) -> anyhow::Result<Model> {
    load(&local(model, Weights::Safetensors)?, device)
}

/// Opens a MODEL that is on this machine, and tells what was passed over.
pub fn load(local: &Local, device: &Device) -> anyhow::Result<Model> {
    let mut opened = match (Model::load(&local.path, device), &local.reference) {
        (Err(Error::Checkpoint { path, reason }), Some(reference)) => bail!(
            "{} cannot be used: {reason} (it is {}; remove that to fetch it again)",
            reference.display(),
            path.display()
        ),
        (opened, _) => opened?,
    };
    if let Some(reference) = &local.reference {
        opened.path.clone_from(reference);
    }
    opened.skipped.iter().for_each(|reason| output::note(&format!("passed over: {reason}")));
    note_assumed(&opened);
    Ok(opened)
}

/// Says what was assumed of a network of another code, and how to say otherwise.
pub fn note_assumed(model: &Model) {
    if let Some(assumed) = model.imported.as_ref().and_then(|imported| imported.assumed()) {
        let file = model.path.display();
        output::note(&format!(
            "{file} does not say all of its network; assumed: {assumed}; `equimod import` takes these options"
        ));
    }
}

/// A MODEL on this machine.
pub struct Local {
    /// Where it is.
    pub path: PathBuf,
    /// As it is on the Hub, pinned to a commit, if it is there.
    pub reference: Option<PathBuf>,
}

/// A MODEL on this machine, fetched if it is on the Hub.
pub fn local(model: &Path, weights: Weights) -> anyhow::Result<Local> {
    match model.to_str().filter(|name| name.starts_with(PREFIX)) {
        Some(name) => {
            let fetched = hub::fetch_model(&ModelReference::parse(name)?, weights)?;
            Ok(Local { path: fetched.path, reference: Some(fetched.reference.to_string().into()) })
        }
        None => Ok(Local { path: model.to_owned(), reference: None }),
    }
}
