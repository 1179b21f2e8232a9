//! `equimod init`: a recipe for one's own images.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use candle_core::Device;
use equimod_core::Parameters;
use equimod_core::checkpoint::write_atomic;
use equimod_train::Recipe;

use super::pretrain::next_folder;
use crate::choice::{Written, recipe_for};
use crate::cli::Init;
use crate::outputs::console::{self, duration};
use crate::outputs::suggestion::{Suggestion, print_all};
use crate::process::device;
use crate::process::exit::Usage;
use crate::run::forecast::{forecast, measure};
use crate::run::measured_method::PARAMETERS;

/// Writes a recipe for the images, and prints what it is, the time that it takes here, and the next commands.
///
/// # Errors
///
/// If the file exists, the images cannot be used, or the file cannot be written.
pub fn run(arguments: &Init) -> anyhow::Result<ExitCode> {
    let Init { images, data, out, force, shortcuts, epochs, device } = arguments;
    let images = images.as_ref().or(data.as_ref()).map_or("", String::as_str);
    let devices = device::open_all(&device.device)?;
    let epochs = epochs.iter().map(|epochs| format!("schedule.epochs={epochs}"));
    let settings: Vec<String> = shortcuts.settings().into_iter().chain(epochs).collect();
    let written = recipe_for(images, &settings, &devices)?;
    // Mistakes about the images come first: with another file, they would be the same.
    if out.exists() && !force {
        let text = format!("{} exists already; give another file with --out, or --force to replace it", out.display());
        return Err(Usage(text).into());
    }
    let text = written.text("equimod init");
    let recipe = written.resolved(&out.display().to_string(), &text, &settings)?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    write_atomic(out, text.as_bytes())?;
    console::sentences(&format!("{}\nwritten to {}", written.summary(), out.display()))?;
    let time = expected(&recipe, &devices, written.steps());
    console::sentences(&format!("expected time: {time}"))?;
    print_all(&next(out, &written))?;
    Ok(ExitCode::SUCCESS)
}

/// Time of all steps, from a few on noise.
fn expected(recipe: &Recipe, devices: &[Device], steps: u64) -> String {
    let (parameters, ranks) = (Parameters::of_views(PARAMETERS), devices.len());
    let recipe = Recipe { execution: recipe.execution.on(&devices[0]), ..recipe.clone() };
    let measured = match &devices[0] {
        Device::Cpu => forecast(&recipe, &parameters, ranks).map(|forecast| forecast.time),
        gpu => measure(&recipe, &parameters, ranks, gpu).map(|measured| measured.time),
    };
    let place = device::describe(&devices[0]);
    match measured {
        Ok(time) => {
            format!(
                "{} for {steps} steps on {place}, without loading and evaluation",
                duration(time.mul_f64(steps as f64))
            )
        }
        Err(error) => format!("unknown: a step fails on {place}: {error}"),
    }
}

/// The commands that train and evaluate.
fn next(recipe: &Path, written: &Written) -> [Suggestion; 3] {
    let recipe = recipe.display().to_string();
    let run = next_folder(&recipe).display().to_string();
    let labels = &written.facts.images.labels;
    let evaluate = match (labels.iter().find(|(_, classes)| *classes > 1), labels.first()) {
        (Some((task, classes)), _) => {
            Suggestion::new(["eval", "logistic", &run, "--untrained"]).about(&format!("{task}: {classes} classes"))
        }
        (None, Some((task, _))) => {
            Suggestion::new(["eval", "equivariance", &run]).about(&format!("{task} has one class alone"))
        }
        (None, None) => Suggestion::new(["eval", "equivariance", &run]).about("there are no labels"),
    };
    let train = Suggestion::new(["pretrain", "--recipe", &recipe]);
    let beside = train.clone().with(["--baseline"]).about("also without the module's loss, in twice the time");
    [train, beside, evaluate]
}
