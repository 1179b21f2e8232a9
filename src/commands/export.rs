//! `equimod export`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use candle_core::Device;
use equimod_core::Model;
use equimod_core::checkpoint::write_folder;
use equimod_core::model::{CONFIG_FILE, MODEL_FILE};
use serde_json::json;

use crate::card::{CARD_FILE, is_edited};
use crate::cli::Export;
use crate::exit::Usage;
use crate::export::run::RunFiles;
use crate::export::sums::SUMS_FILE;
use crate::export::verify::{Verified, verify};
use crate::export::{Files, Told, files};
use crate::hub::Weights;
use crate::{models, output};

/// Writes weights for others.
pub fn run(arguments: &Export) -> anyhow::Result<ExitCode> {
    let out = &arguments.out;
    check(out)?;
    let model = model(arguments)?;
    let run = RunFiles::of(&arguments.model, &model, &arguments.results)?;
    run.left_out.iter().for_each(|what| output::note(&format!("left out: {what}")));
    let told = Told { licence: arguments.licence.clone(), data_licence: arguments.data_licence.clone() };
    let mut files = files(&model, run, &told)?;
    keep_card(&mut files, out, arguments.force_card)?;
    write_folder(out, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    let verified = arguments.verify.then(|| verify(&model, out)).transpose()?;
    tell(arguments, &files, verified)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a folder with something else in it.
fn check(out: &Path) -> anyhow::Result<()> {
    if out.is_file() {
        return Err(Usage(format!("{} is a file; give a folder to --out", out.display())).into());
    }
    let is_empty = fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    let is_export = [SUMS_FILE, CONFIG_FILE, MODEL_FILE].iter().all(|name| out.join(name).is_file());
    if !is_empty && !is_export {
        let text = format!("{} is neither empty nor an export; give another folder to --out", out.display());
        return Err(Usage(text).into());
    }
    Ok(())
}

fn model(arguments: &Export) -> anyhow::Result<Model> {
    if !arguments.target {
        return models::open(&arguments.model, &Device::Cpu);
    }
    let local = models::local(&arguments.model, Weights::Safetensors)?;
    Ok(Model::load_target(&local.path, &Device::Cpu)?)
}

/// Keeps the card of an earlier export if a person edited it.
fn keep_card(files: &mut Files, out: &Path, force: bool) -> anyhow::Result<()> {
    let path = out.join(CARD_FILE);
    if force || !path.is_file() {
        return Ok(());
    }
    let card = fs::read(&path)?;
    if is_edited(&card) {
        output::note(&format!("{} was edited and stays as it is; --force-card writes it anew", path.display()));
        files.insert(CARD_FILE.into(), card);
    }
    Ok(())
}

fn tell(arguments: &Export, files: &Files, verified: Option<Verified>) -> anyhow::Result<()> {
    let sizes = files.iter().map(|(name, bytes)| (name.as_str(), bytes.len()));
    if arguments.json {
        let files: Vec<_> = sizes.map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        return output::json(&json!({ "folder": arguments.out, "files": files, "verified": verified }));
    }
    let mut text = format!("{}\n", arguments.out.display());
    sizes.for_each(|(name, bytes)| text += &format!("  {name}  {bytes} bytes\n"));
    if let Some(verified) = verified {
        text += &format!("verified  {}\n", verified.summary());
        for (what, names) in [("missing", &verified.missing), ("unexpected", &verified.unexpected)] {
            names.iter().for_each(|name| text += &format!("  {what} {name}\n"));
        }
    }
    output::result(&text)?;
    output::note(&format!("publish it with: equimod publish {} --repo OWNER/NAME", arguments.out.display()));
    Ok(())
}
