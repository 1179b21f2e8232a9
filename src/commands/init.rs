//! `equimod init`: a recipe for one's own images.

use std::path::Path;
use std::process::ExitCode;

use crate::recipes::from_text;
use candle_core::Device;
use equimod_core::Parameters;
use equimod_core::checkpoint::write_atomic;
use equimod_train::Recipe;

use super::pretrain::next_folder;
use crate::choice::{Written, recipe_for};
use crate::cli::Init;
use crate::outputs::console::{self, duration};
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
    let Init { images, out, force, device } = arguments;
    let devices = device::open_all(&device.device)?;
    let written = recipe_for(images, &[], &devices)?;
    // Mistakes about the images come first: with another file, they would be the same.
    if out.exists() && !force {
        let text = format!("{} exists already; give another file with --out, or --force to replace it", out.display());
        return Err(Usage(text).into());
    }
    let text = written.text("equimod init");
    let recipe = from_text(&out.display().to_string(), &text, &[])?;
    write_atomic(out, text.as_bytes())?;
    console::result(&format!("{}\nwritten to {}", written.summary(), out.display()))?;
    let time = expected(&recipe, &devices, written.steps());
    console::result(&format!("expected time: {}\n\nNext:\n{}", time, next(out, &written)))?;
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
fn next(recipe: &Path, written: &Written) -> String {
    // The name as it was called: with cargo, `equimod` is not in the search path.
    let program = std::env::args().next().unwrap_or_else(|| "equimod".into());
    let (recipe, run) = (recipe.display().to_string(), next_folder(&recipe.display().to_string()));
    let run = run.display();
    let evaluate = match written.facts.images.labels.first() {
        Some((task, classes)) => format!("{program} eval logistic {run} --untrained   # {task}: {classes} classes"),
        None => format!("{program} eval equivariance {run}   # there are no labels"),
    };
    format!("  {program} pretrain --recipe {recipe}\n  {evaluate}")
}
