//! `equimod inspect`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

use equimod_core::Preprocessing;
use equimod_core::checkpoint::LoadReport;
use equimod_core::model::{Certainty, Choices};
use equimod_core::torch_file::is_torch;
use equimod_core::{Error, Model};
use equimod_data::Background;
use equimod_data::source::ReadOptions;
use serde_json::json;

use crate::cli::Inspect;
use crate::hub::WeightFormats;
use crate::inputs::evaluated_data::reading;
use crate::inputs::model_argument;
use crate::outputs::console;
use crate::process::device;
use crate::process::exit::Usage;

/// Loads a MODEL strictly and reports its contents, or the keys that keep it from loading.
pub fn run(arguments: &Inspect) -> anyhow::Result<ExitCode> {
    match open(arguments) {
        Ok(model) => {
            let reading = reading(&arguments.model, ReadOptions::default()).unwrap_or_default();
            match arguments.json {
                true => as_json(arguments, &model, reading)?,
                false => console::result(&as_text(arguments, &model, reading)?)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let report = match error.downcast_ref() {
                Some(Error::Mismatch { report, .. }) => Some(report),
                _ => None,
            };
            if arguments.json {
                let value = json!({
                    "file": arguments.model, "loads": false, "report": report, "reason": error.to_string(),
                });
                console::json(&value)?;
            } else if let Some(report) = report {
                console::result(&format!("file        {}\n{}", arguments.model.display(), keys(report)))?;
            }
            Err(error)
        }
    }
}

/// Opens the model; PyTorch files are read as by `import`.
fn open(arguments: &Inspect) -> anyhow::Result<Model> {
    let device = device::open(&arguments.device.device)?;
    let local = model_argument::local(&arguments.model, WeightFormats::Any)?;
    let mut beginning = [0; 64];
    let read = File::open(&local.path).and_then(|mut file| file.read(&mut beginning));
    let choices = arguments.assumptions.choices();
    let chosen = choices != Choices::default() || arguments.prefix.is_some();
    if chosen && !local.path.is_file() {
        let text = "only a single file takes --prefix, --stem-padding and the like";
        return Err(Usage(format!("{} is no file; {text}", local.path.display())).into());
    }
    if chosen || local.path.is_file() && read.is_ok_and(|length| is_torch(&beginning[..length])) {
        let mut imported = Model::import(&local.path, arguments.prefix.as_deref(), &choices, &device)?;
        imported.path = local.reference.unwrap_or(local.path);
        model_argument::note_assumed(&imported);
        return Ok(imported);
    }
    model_argument::load(&local, &device)
}

fn as_json(arguments: &Inspect, model: &Model, reading: ReadOptions) -> anyhow::Result<()> {
    let listed = arguments.tensors.then(|| tensors(model));
    console::json(&json!({
        "file": model.path, "sha256": model.sha256, "loads": true, "report": model.report,
        "not_finite": model.not_finite()?,
        "features": model.backbone().features(), "parameters": model.params().count(""),
        "parameters_by_part": parts(model).into_iter().collect::<BTreeMap<_, _>>(),
        "backbone": model.backbone_config()?, "preprocessing": model.preprocessing,
        "preprocessing_guessed": model.guessed, "background": reading.background,
        "description": model.description, "skipped": model.skipped, "tensors": listed, "imported": model.imported,
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

/// Number of matching keys, and the list of those that do not match.
fn keys(report: &LoadReport) -> String {
    let counts =
        [(&report.missing, "missing"), (&report.unexpected, "unexpected"), (&report.reshaped, "of another shape")];
    let mut text = format!("keys        {} matched", report.matched.len());
    // Writing to a string does not fail.
    for (names, what) in counts {
        let _ = write!(text, ", {} {what}", names.len());
    }
    text += if report.is_exact() { ": every name and shape fits\n" } else { "\n" };
    for (names, what) in counts.into_iter().filter(|(names, _)| !names.is_empty()) {
        let _ = writeln!(text, "{what}");
        names.iter().for_each(|name| text += &format!("  {name}\n"));
    }
    if !report.prefix.is_empty() {
        let _ = writeln!(text, "prefix      {} taken off the names", report.prefix);
    }
    text += &left_out(report, "left out    ");
    if let Some(stranger) = &report.stranger {
        let _ = writeln!(text, "network     {stranger}");
    }
    text + &beside(report, "beside      ")
}

/// Tensors that are not read, and content other than tensors, after a heading.
pub fn beside(report: &LoadReport, heading: &str) -> String {
    let mut text = String::new();
    if !report.not_read.is_empty() {
        text += &format!(
            "{}{} tensors and arrays\n",
            "not read".to_owned() + &" ".repeat(heading.len().saturating_sub(8)),
            report.not_read.len()
        );
        report.not_read.iter().for_each(|name| text += &format!("  {name}\n"));
    }
    if !report.beside.is_empty() {
        text += &format!("{heading}{}\n", report.beside.join(", "));
    }
    text
}

/// Code base that produced the weights, after a heading, and each property that names and shapes do not show.
pub fn assumptions(model: &Model, heading: &str) -> String {
    let Some(imported) = &model.imported else { return String::new() };
    let mut text = format!("{heading}{}\n", imported.code.as_deref().unwrap_or("unknown"));
    text += "what names and shapes do not say\n";
    for assumption in &imported.assumptions {
        let certainty = match assumption.certainty {
            Certainty::Given => "given",
            Certainty::Recorded => "recorded",
            Certainty::Recognized => "recognized",
            Certainty::Assumed => "assumed",
        };
        let why = if assumption.certainty == Certainty::Given { "" } else { assumption.reason.as_str() };
        let option = &assumption.option;
        let line = format!("  {:<20} {:<22} {certainty:<11} {option:<20} {why}", assumption.what, assumption.value);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Tensors that do not belong to the ResNet, after a heading: one line per group of names.
pub fn left_out(report: &LoadReport, heading: &str) -> String {
    let names = &report.left_out;
    if names.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}{} tensors that are not the ResNet's:\n", names.len());
    for (part, names) in grouped(names) {
        match names.as_slice() {
            [one] => text += &format!("  {one}\n"),
            several => text += &format!("  {part}.…  {} tensors\n", several.len()),
        }
    }
    text
}

/// Groups names by their first dot-separated part in which any two of them differ.
fn grouped(names: &[String]) -> BTreeMap<String, Vec<&String>> {
    let parts = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<String>>();
    let first = parts(&names[0]);
    let agreed = |name: &String| parts(name).iter().zip(&first).take_while(|(a, b)| a == b).count();
    let shared = names.iter().map(agreed).min().unwrap_or(0);
    let mut groups: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for name in names {
        let parts = parts(name);
        groups.entry(parts[..parts.len().min(shared + 1)].join(".")).or_default().push(name);
    }
    groups
}

fn as_text(arguments: &Inspect, model: &Model, reading: ReadOptions) -> anyhow::Result<String> {
    let mut text = format!("file        {}\nsha256      {}\n", model.path.display(), model.sha256);
    text += &keys(&model.report);
    let not_finite = model.not_finite()?;
    if !not_finite.is_empty() {
        text += &format!("numbers     not finite in {}\n", not_finite.join(", "));
    }
    text += &format!("features    {} values per image\n", model.backbone().features());
    let Preprocessing { size, normalization } = &model.preprocessing;
    let guessed = if model.guessed { " (guessed from the stem)" } else { "" };
    text +=
        &format!("input       {size} × {size}, mean {:?}, std {:?}{guessed}\n", normalization.mean, normalization.std);
    if let Background(Some(_)) = reading.background {
        text += &format!("background  {}, behind transparent pixels\n", reading.background);
    }
    text += &format!("parameters  {}", model.params().count(""));
    let parts: Vec<String> = parts(model).iter().map(|(part, count)| format!("{part} {count}")).collect();
    if !parts.is_empty() {
        text += &format!(" ({})", parts.join(", "));
    }
    text += &format!("\nbackbone    {}", model.backbone_config()?.settings().describe());
    if model.imported.is_some() {
        text += &format!("\n{}", assumptions(model, "code        ").trim_end());
    }
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
