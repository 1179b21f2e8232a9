//! `equimod export`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use candle_core::Device;
use equimod_core::Model;
use equimod_core::model::{CONFIG_FILE, MODEL_FILE};
use equimod_eval::verdict::caveat;
use serde_json::json;

use crate::artifact::CARD_FILE;
use crate::artifact::Files;
use crate::cli::Export;
use crate::export::run::RunFiles;
use crate::export::sums::SUMS_FILE;
use crate::export::verify::{Verification, ensure_finite, verify};
use crate::export::{Licenses, files, folder, license};
use crate::hub::WeightFormats;
use crate::inputs::model_argument;
use crate::inputs::model_argument::LocalModel;
use crate::outputs::console;
use crate::outputs::suggestion::Suggestion;
use crate::process::exit::Usage;
use crate::run::facts::of_run;
use crate::run_state::run_of;

/// Exports weights for sharing.
///
/// # Errors
///
/// If the model is not available or damaged, or the folder cannot be written.
pub fn run(arguments: &Export) -> anyhow::Result<ExitCode> {
    let out = arguments.out();
    check(arguments)?;
    let local = model_argument::local(&arguments.model, WeightFormats::Safetensors)?;
    let model = model(arguments, &local)?;
    ensure_finite(&model)?;
    let mut run = RunFiles::of(&local.path, &model, &arguments.results)?;
    if let Some(training) = run.training.as_mut().filter(|training| training.finished) {
        let facts = run_of(&local.path).and_then(of_run);
        training.caveat = facts.and_then(|facts| caveat(&facts)).unwrap_or_else(|| training.caveat.clone());
    }
    run.left_out.iter().for_each(|what| console::note(&format!("skipped: {what}")));
    if run.training.as_ref().is_some_and(|training| !training.finished) {
        console::note("these weights are from before the end of training, which the card says");
    }
    let licenses = Licenses { weights: arguments.license.clone(), data: arguments.data_license.clone() };
    let mut files = files(&model, run, &licenses)?;
    if !arguments.force_card && folder::keep_card(&mut files, out)? {
        let card = out.join(CARD_FILE);
        console::note(&format!("keeping {}, which was edited by hand; --force-card overwrites it", card.display()));
    }
    folder::write(out, &files)?;
    let verified = arguments.verify.then(|| verify(&model, out)).transpose()?;
    print(arguments, &files, verified)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether files of weights have this extension.
fn is_of_weights(extension: &OsStr) -> bool {
    let known = ["onnx", "pt", "pth", "bin", "ckpt", "pkl", "safetensors", "h5", "npz", "tar", "zip"];
    known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Refuses an output folder with other content, and invalid licenses.
fn check(arguments: &Export) -> anyhow::Result<()> {
    let out = arguments.out();
    if out.is_file() {
        return Err(Usage(format!("{} is a file; give a folder to --out", out.display())).into());
    }
    if let Some(extension) = out.extension().filter(|extension| is_of_weights(extension) && !out.is_dir()) {
        let text = format!(
            "--out {} looks like a file of type .{}; an export is a folder with safetensors files, give its name",
            out.display(),
            extension.display()
        );
        return Err(Usage(text).into());
    }
    let is_export = [SUMS_FILE, CONFIG_FILE, MODEL_FILE].iter().all(|name| out.join(name).is_file());
    if !is_empty(out) && !is_export {
        let text = format!("{} is neither empty nor an export; give another folder to --out", out.display());
        return Err(Usage(text).into());
    }
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c);
    let id = arguments.license.as_deref();
    if let Some(wrong) = id.filter(|name| name.is_empty() || !name.chars().all(known)) {
        let text = format!(
            "--license {wrong:?} has not the form of a license id of the Hub; use e.g. mit, apache-2.0, cc-by-4.0 or other"
        );
        return Err(Usage(text).into());
    }
    id.and_then(license::warning).iter().for_each(|text| console::note(text));
    if arguments.data_license.as_deref().is_some_and(|text| text.chars().any(char::is_control)) {
        return Err(Usage("--data-license has more than one line; use a single line".into()).into());
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

fn model(arguments: &Export, local: &LocalModel) -> anyhow::Result<Model> {
    let model = model_argument::load(local, &Device::Cpu)?;
    if !arguments.target {
        return Ok(model);
    }
    if let Some(description) = &model.description
        && description.method.objective.settings().target().is_none()
    {
        let text = format!("{} has no target network; leave --target out", arguments.model.display());
        return Err(Usage(text).into());
    }
    Ok(Model::load_target(&local.path, &Device::Cpu)?)
}

fn print(arguments: &Export, files: &Files, verified: Option<Verification>) -> anyhow::Result<()> {
    let sizes = files.iter().map(|(name, bytes)| (name.as_str(), bytes.len()));
    if arguments.json {
        let files: Vec<_> = sizes.map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        return console::json(&json!({ "folder": arguments.out(), "files": files, "verified": verified }));
    }
    let mut text = format!("{}\n", arguments.out().display());
    sizes.for_each(|(name, bytes)| text += &format!("  {name}  {bytes} bytes\n"));
    if let Some(verified) = verified {
        text += &format!("verified  {}\n", verified.summary());
        for (what, names) in [("missing", &verified.missing), ("unexpected", &verified.unexpected)] {
            names.iter().for_each(|name| text += &format!("  {what} {name}\n"));
        }
    }
    console::result(&text)?;
    let publish = ["publish", &arguments.out().display().to_string(), "--repo", "OWNER/NAME"];
    Suggestion::new(publish).note("publish it with: ");
    Ok(())
}
