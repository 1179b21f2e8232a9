//! Loading of a MODEL argument.

use std::path::{Path, PathBuf};

use anyhow::bail;
use candle_core::Device;
use equimod_core::model::{CONFIG_FILE, MODEL_FILE};
use equimod_core::{Error, Model};
use equimod_eval::Copies;
use equimod_train::run_dir::is_run;
use equimod_train::{RunInfo, Status, Trainer};

use crate::hub::{self, WeightFormats};
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::reference::{ModelReference, PREFIX};
use crate::run_state::status;

/// Loads a MODEL, downloading it if it is on the Hub, and reports skipped checkpoints.
///
/// # Errors
///
/// If the model is not available or damaged.
pub fn open(model: &Path, device: &Device) -> anyhow::Result<Model> {
    load(&local(model, WeightFormats::Safetensors)?, device)
}

/// Loads a MODEL onto the first of the devices, and copies of it onto the others.
///
/// # Errors
///
/// If the model is not available or damaged.
pub fn open_on(model: &Path, devices: &[Device]) -> anyhow::Result<(Model, Copies)> {
    let local = local(model, WeightFormats::Safetensors)?;
    let (first, others) = devices.split_first().unwrap_or((&Device::Cpu, &[]));
    let opened = load(&local, first)?;
    let copies = Copies::on(others, |device| Model::load(&local.path, device))?;
    unfinished(model, &opened).iter().for_each(|text| console::note(text));
    Ok((opened, copies))
}

/// A note on a run that did not end, whose newest checkpoint is evaluated.
fn unfinished(folder: &Path, model: &Model) -> Option<String> {
    let info = RunInfo::read(folder).ok().filter(|info| is_run(folder) && info.status != Status::Finished)?;
    let step = model.description.as_ref()?.step;
    let (status, folder) = (status(folder, &info), folder.display());
    Some(format!("{folder} is not finished ({status}): its newest checkpoint is used, that of step {step}"))
}

/// Loads the weights of a MODEL into a trainer, and reports which; returns the model.
///
/// # Errors
///
/// If the model is not available or damaged, or is for another recipe.
pub fn begin_from(trainer: &mut Trainer, model: &Path, device: &Device) -> anyhow::Result<Model> {
    let model = open(model, device)?;
    let taken = trainer.begin_from(&model)?;
    console::note(&format!("from {}: {}", model.path.display(), taken.summary()));
    Ok(model)
}

/// Checks that a run was not given where images were expected, and images in its place.
///
/// # Errors
///
/// If it was.
pub fn check_order(model: &Path, source: Option<&str>) -> anyhow::Result<()> {
    let is_export = |path: &Path| path.join(CONFIG_FILE).is_file() && path.join(MODEL_FILE).is_file();
    let is_model = |path: &Path| is_run(path) || is_export(path);
    match source.map(Path::new).filter(|source| is_model(source) && !is_model(model)) {
        Some(other) => {
            let what = if is_run(other) { "a run" } else { "an export" };
            let (model, other) = (model.display(), other.display());
            let text = format!("{other} is {what}, and images were expected; give the model first: {other} {model}");
            Err(Usage(text).into())
        }
        None => Ok(()),
    }
}

/// Loads a MODEL from local files, and reports skipped checkpoints.
///
/// # Errors
///
/// If the model is damaged.
pub fn load(local: &LocalModel, device: &Device) -> anyhow::Result<Model> {
    let mut opened = match (Model::load(&local.path, device), &local.reference) {
        (Err(Error::Checkpoint { path, reason }), Some(reference)) => bail!(
            "cannot use {}: {reason} (its file is {}; remove it to download it again)",
            reference.display(),
            path.display()
        ),
        (opened, _) => opened?,
    };
    if let Some(reference) = &local.reference {
        opened.path.clone_from(reference);
    }
    opened.skipped.iter().for_each(|reason| console::note(&format!("skipped: {reason}")));
    note_assumed(&opened);
    Ok(opened)
}

/// Reports the assumptions about a network of another code base, and how to change them.
pub fn note_assumed(model: &Model) {
    if let Some(assumed) = model.imported.as_ref().and_then(|imported| imported.assumed()) {
        let file = model.path.display();
        console::note(&format!(
            "{file} does not describe its network completely; assumed: {assumed}; `equimod import` takes these options"
        ));
    }
}

/// A MODEL in local files.
pub struct LocalModel {
    /// Path of the files.
    pub path: PathBuf,
    /// Reference to the Hub, pinned to a commit, if the model is from there.
    pub reference: Option<PathBuf>,
}

/// Resolves a MODEL to local files, downloading it if it is on the Hub.
///
/// # Errors
///
/// If the reference is not valid, or the model is not available.
pub fn local(model: &Path, weights: WeightFormats) -> anyhow::Result<LocalModel> {
    match model.to_str().filter(|name| name.starts_with(PREFIX)) {
        Some(name) => {
            let fetched = hub::fetch_model(&ModelReference::parse(name)?, weights)?;
            Ok(LocalModel { path: fetched.path, reference: Some(fetched.reference.to_string().into()) })
        }
        None => Ok(LocalModel { path: model.to_owned(), reference: None }),
    }
}
