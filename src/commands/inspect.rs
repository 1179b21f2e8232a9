//! `equimod inspect`.

use std::fmt::Write;
use std::process::ExitCode;

use equimod_core::checkpoint::LoadReport;
use equimod_core::model::Preprocessing;
use equimod_core::{Error, Model};
use serde_json::json;

use crate::cli::Inspect;
use crate::{device, models, output};

/// Loads a MODEL strictly and says what it holds, or which keys keep it from loading.
pub fn run(arguments: &Inspect) -> anyhow::Result<ExitCode> {
    match models::open(&arguments.model, &device::open(&arguments.device.device)?) {
        Ok(model) => {
            if arguments.json { as_json(arguments, &model) } else { output::result(&as_text(arguments, &model)?) }?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if let Some(Error::Mismatch { path, report }) = error.downcast_ref() {
                match arguments.json {
                    true => output::json(&json!({ "file": path, "loads": false, "report": report }))?,
                    false => output::result(&format!("file        {}\n{}", path.display(), keys(report)))?,
                }
            }
            Err(error)
        }
    }
}

fn as_json(arguments: &Inspect, model: &Model) -> anyhow::Result<()> {
    let listed = arguments.tensors.then(|| tensors(model));
    output::json(&json!({
        "file": model.path, "sha256": model.sha256, "loads": true, "report": model.report,
        "features": model.backbone().features(), "parameters": model.params().count(""),
        "parameters_by_part": parts(model).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "backbone": model.backbone_config()?, "preprocessing": model.preprocessing, "preprocessing_guessed": model.guessed,
        "description": model.description, "skipped": model.skipped, "tensors": listed,
    }))
}

fn parts(model: &Model) -> Vec<(&'static str, usize)> {
    let parts = ["backbone.", "objective.", "equivariance."].into_iter();
    let counts = parts.map(|part| (part.trim_end_matches('.'), model.params().count(part)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn tensors(model: &Model) -> Vec<(String, Vec<usize>)> {
    model.params().iter().map(|(name, slot)| (name.to_owned(), slot.var.dims().to_vec())).collect()
}

/// How many keys fit, and each that does not.
fn keys(report: &LoadReport) -> String {
    let counts =
        [(&report.missing, "missing"), (&report.unexpected, "unexpected"), (&report.reshaped, "of another shape")];
    let mut text = format!("keys        {} matched", report.matched.len());
    // Writing to a string does not fail.
    for (names, what) in counts {
        let _ = write!(text, ", {} {what}", names.len());
    }
    text.push('\n');
    for (names, what) in counts.into_iter().filter(|(names, _)| !names.is_empty()) {
        let _ = writeln!(text, "{what}");
        names.iter().for_each(|name| text += &format!("  {name}\n"));
    }
    if !report.prefix.is_empty() {
        let _ = writeln!(text, "prefix      {} taken off the names", report.prefix);
    }
    if !report.left_out.is_empty() {
        let _ = writeln!(text, "left out    {} tensors that are not the ResNet's:", report.left_out.len());
        report.left_out.iter().for_each(|name| text += &format!("  {name}\n"));
    }
    text
}

fn as_text(arguments: &Inspect, model: &Model) -> anyhow::Result<String> {
    let mut text = format!("file        {}\nsha256      {}\n", model.path.display(), model.sha256);
    text += &keys(&model.report);
    text += &format!("features    {} values a picture\n", model.backbone().features());
    let Preprocessing { size, normalisation } = &model.preprocessing;
    let guessed = if model.guessed { " (guessed from the stem)" } else { "" };
    text +=
        &format!("input       {size} × {size}, mean {:?}, std {:?}{guessed}\n", normalisation.mean, normalisation.std);
    text += &format!("parameters  {}", model.params().count(""));
    let parts: Vec<String> = parts(model).iter().map(|(part, count)| format!("{part} {count}")).collect();
    if !parts.is_empty() {
        text += &format!(" ({})", parts.join(", "));
    }
    let backbone = model.backbone_config()?;
    let (name, stem, width) = (backbone.architecture.name(), backbone.stem, backbone.width);
    text += &format!("\nbackbone    {name}, {stem:?} stem, width {width}");
    if let Some(d) = &model.description {
        let target = if d.target { ", target network" } else { "" };
        text += &format!("\ntrained     {} steps, seed {}, equimod {}{target}\n", d.step, d.seed, d.version);
        text += &format!("method      {}", serde_json::to_string(&d.method)?);
    }
    if arguments.tensors {
        tensors(model).iter().for_each(|(name, shape)| text += &format!("\n  {name} {shape:?}"));
    }
    Ok(text)
}
