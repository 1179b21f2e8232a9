//! `equimod find-lr`.

use std::process::ExitCode;

use equimod::recipes::named;
use equimod_core::checkpoint::write_atomic;
use equimod_eval::report::{Plot, ReportData, Section, Series, render};
use equimod_train::{RateSearch, RateStep, TrainContext, Trainer};

use crate::cli::FindRate;
use crate::inputs::sources::training;
use crate::outputs::console::{self, Count};
use crate::process::device;
use crate::process::exit;
use crate::process::exit::Usage;

/// Runs a learning-rate range test, and writes the page with the plot.
///
/// # Errors
///
/// If the arguments or the recipe are not valid, the images cannot be read, or a step fails.
pub fn run(arguments: &FindRate) -> anyhow::Result<ExitCode> {
    let FindRate { least, most, .. } = *arguments;
    if !(least > 0.0 && most > least && most.is_finite()) {
        let text = format!("no learning rates from {least} to {most}; give --least above 0 and --most above --least");
        return Err(Usage(text).into());
    }
    let (recipe, _) = named(&arguments.recipe.recipe, &arguments.recipe.settings())?;
    let (dataset, _) = training(&recipe.data.source, recipe.data.reading())?;
    let (threads, version) = (rayon::current_num_threads(), env!("CARGO_PKG_VERSION"));
    let context = TrainContext::alone(device::open(&arguments.device.device)?, threads, version);
    let mut trainer = Trainer::new(recipe.clone(), dataset, context)?;
    let bar = Count::new("steps", arguments.steps as usize);
    let mut done = 0;
    let search = trainer.search_rates(least, most, arguments.steps as usize, |_| {
        done += 1;
        bar.set(done);
    })?;
    bar.finish();
    write_atomic(&arguments.out, page(arguments, &search, recipe.to_toml()).as_bytes())?;
    if arguments.json {
        console::json(&search)?;
    } else {
        console::result(&format!("{}\nplot {}", summary(arguments, &search), arguments.out.display()))?;
    }
    let found = search.steepest.is_some();
    Ok(ExitCode::from(if found { 0 } else { exit::FAILED }))
}

fn summary(arguments: &FindRate, search: &RateSearch) -> String {
    let steps = search.steps.len();
    let end = match search.steps.last() {
        Some(last) if search.diverged => format!("the loss was not finite after {:.3e}", last.learning_rate),
        Some(last) if steps < arguments.steps as usize => format!("the loss rose at {:.3e}", last.learning_rate),
        _ => "the loss did not rise; try a higher --most".into(),
    };
    let found = match (search.steepest, search.lowest) {
        (Some(steepest), Some(lowest)) => format!(
            "the loss falls most steeply at {steepest:.3e} and is lowest at {lowest:.3e}: \
             try a schedule.learning_rate between them"
        ),
        _ => "the loss does not fall at any of these learning rates; see the plot, or try a lower --least".into(),
    };
    format!("{steps} steps: {end}; {found}")
}

fn page(arguments: &FindRate, search: &RateSearch, recipe: String) -> String {
    let line = |name: &str, of: fn(&RateStep) -> f64| Series {
        name: name.into(),
        points: search.steps.iter().map(|step| (step.learning_rate.log10(), of(step))).collect(),
    };
    let plot = Plot {
        title: "loss".into(),
        x_label: "learning rate (log10)".into(),
        series: vec![line("loss", |step| step.loss), line("smoothed", |step| step.smoothed)],
    };
    render(&ReportData {
        title: format!("equimod: learning rates for {}", arguments.recipe.recipe),
        summary: summary(arguments, search),
        sections: vec![Section::lines("Curves", vec![plot])],
        recipe,
        ..Default::default()
    })
}
