//! `equimod find-lr`.

use std::path::Path;
use std::process::ExitCode;

use equimod_core::checkpoint::write_atomic;
use equimod_eval::report::{Figure, Mark, Plot, ReportData, Section, Series, render};
use equimod_train::run_dir::RESOLVED;
use equimod_train::{RateSearch, RateStep, Recipe, TrainContext, Trainer};

use crate::choice::named_or_chosen;
use crate::cli::FindRate;
use crate::inputs::model_argument::begin_from;
use crate::inputs::sources::training;
use crate::outputs::console::{self, Count};
use crate::outputs::suggestion::{Suggestion, on_page};
use crate::outputs::verdict::print_verdict;
use crate::process::device;
use crate::process::exit;
use crate::process::exit::Usage;
use crate::run::{again, baseline};

/// Runs a learning-rate range test, and writes the page with the plot.
///
/// # Errors
///
/// If the arguments or the recipe are not valid, the images cannot be read, or a step fails.
pub fn run(arguments: &FindRate) -> anyhow::Result<ExitCode> {
    let FindRate { min_lr: least, max_lr: most, .. } = *arguments;
    if !(least > 0.0 && most > least && most.is_finite()) {
        let text =
            format!("no learning rates from {least} to {most}; give --min-lr above 0 and --max-lr above --min-lr");
        return Err(Usage(text).into());
    }
    let device = device::open(&arguments.device.device)?;
    let (recipe, _) =
        named_or_chosen(&arguments.recipe, &arguments.recipe.settings(), std::slice::from_ref(&device), 1)?;
    let (dataset, _) = training(&recipe.data.source, recipe.data.reading())?;
    let (threads, version) = (rayon::current_num_threads(), env!("CARGO_PKG_VERSION"));
    let context = TrainContext::alone(device.clone(), threads, version);
    let mut trainer = Trainer::new(recipe.clone(), dataset, context)?;
    if let Some(model) = &arguments.from {
        begin_from(&mut trainer, model, &device)?;
    }
    let bar = Count::new("steps", arguments.steps as usize);
    let mut done = 0;
    let search = trainer.search_rates(least, most, arguments.steps as usize, |_| {
        done += 1;
        bar.set(done);
    })?;
    bar.finish();
    let summary = summary(arguments, &search, &recipe);
    let next = next(arguments, &search, &recipe);
    write_atomic(&arguments.out, page(arguments, &search, &summary, &next, recipe.to_toml()).as_bytes())?;
    if arguments.json {
        console::json(&search)?;
    } else {
        print_verdict(&summary, next.as_slice())?;
        console::result(&format!("plot {}", arguments.out.display()))?;
    }
    let found = search.steepest.is_some();
    Ok(ExitCode::from(if found { 0 } else { exit::FAILED }))
}

/// Sentences on the range in which the loss falls, one suggestion beside the recipe's learning rate, and the end of the
/// test.
fn summary(arguments: &FindRate, search: &RateSearch, recipe: &Recipe) -> Vec<String> {
    let steps = search.steps.len();
    let found = match (search.falls_from, search.steepest, search.lowest) {
        (Some(begin), Some(steepest), Some(lowest)) => {
            // The setting is for 256 images, if it is scaled with the batch.
            let factor = recipe.schedule.batch_scaling.factor(recipe.data.batch);
            let [setting, own] = [steepest / factor, recipe.schedule.learning_rate].map(rounded);
            let range = [begin / factor, lowest / factor].map(rounded);
            let [begin, steepest, lowest] = [begin, steepest, lowest].map(rounded);
            let scaled = if factor == 1.0 { "" } else { ", which is scaled with the batch" };
            // Without a rise, the range may end before the steepest fall.
            let is_open = !is_final(search) || search.is_within_noise();
            let kind = if is_open { "Provisional suggestion" } else { "Suggestion" };
            let suggestion = match () {
                () if search.is_within_noise() => format!("{kind}: --lr {setting}{scaled}, at the steepest fall."),
                // Within the range, the place of the steepest fall is no better founded than a rate that was published.
                () if keeps(arguments, search, recipe) => format!(
                    "{kind}: keep the recipe's {own}, which is within the range; the steepest fall is at --lr \
                     {setting}{scaled}."
                ),
                () => format!(
                    "{kind}: --lr {setting}{scaled}, at the steepest fall. {}",
                    place(own, range, is_final(search))
                ),
            };
            let falls = format!(
                "Over {steps} steps, the loss falls at rates from {begin} to {lowest}, most steeply at {steepest}."
            );
            // Of a place that stays chance, the last sentence keeps the recipe's rate.
            let is_founded = !search.is_within_noise() || arguments.steps < ENOUGH_STEPS;
            std::iter::once(falls).chain(is_founded.then_some(suggestion)).collect()
        }
        _ => {
            let or = match arguments.steps < ENOUGH_STEPS {
                true => "more --steps may show where it does".to_owned(),
                false => format!("see the plot, or try --min-lr {}", rounded(0.1 * arguments.min_lr)),
            };
            vec![format!("Over {steps} steps, the loss does not clearly fall at any of these learning rates: {or}.")]
        }
    };
    let end = match search.steps.last() {
        Some(last) if search.diverged => format!("The loss was not finite after {}.", rounded(last.learning_rate)),
        Some(last) if search.rose => format!("The smoothed loss rose again up to {}.", rounded(last.learning_rate)),
        Some(last) if search.lowest.is_some_and(|lowest| 2.0 * lowest < last.learning_rate) => format!(
            "The smoothed loss rises little after its lowest value, which is no clear end: try --max-lr {}.",
            rounded(10.0 * arguments.max_lr)
        ),
        _ => format!(
            "No clear rise of the smoothed loss seen up to the last rate: try --max-lr {}.",
            rounded(10.0 * arguments.max_lr)
        ),
    };
    let noise = search.steepest.filter(|_| search.is_within_noise()).map(|_| {
        let own = rounded(recipe.schedule.learning_rate);
        let so_far = "The place of the steepest fall may be chance, because single steps differ as much";
        match arguments.steps < ENOUGH_STEPS {
            true => format!("{so_far}: give more --steps before judging the recipe's {own}."),
            false if run_of(arguments).is_some() => {
                format!("{so_far}, also over so many steps: if training failed with the recipe's {own}, lower it.")
            }
            false => {
                format!("{so_far}, also over so many steps: keep the recipe's {own} unless a training fails with it.")
            }
        }
    });
    found.into_iter().chain(noise).chain([end]).collect()
}

/// Whether the recipe's learning rate is kept: the loss falls at it, and rises at higher ones. A run has trained with it, and
/// asks for another one.
fn keeps(arguments: &FindRate, search: &RateSearch, recipe: &Recipe) -> bool {
    let own = recipe.schedule.learning_rate * recipe.schedule.batch_scaling.factor(recipe.data.batch);
    let range = search.falls_from.zip(search.lowest);
    let is_within = range.is_some_and(|(from, to)| (from..=to).contains(&own));
    run_of(arguments).is_none() && is_final(search) && is_within
}

/// How many times the largest rate at which the loss falls a rate is that no warm-up carries.
const FAR: f64 = 10.0;

/// Where the recipe's learning rate lies in the range in which the loss falls; `is_final` says that the range ends where
/// the loss rises.
fn place(own: f64, [from, to]: [f64; 2], is_final: bool) -> String {
    match own {
        _ if own < from => format!("The recipe's {own} is below the range, where training is slow."),
        _ if own > to && !is_final => format!("The recipe's {own} is above the rate of the lowest loss so far."),
        _ if own > FAR * to => format!("The recipe's {own} is far above the range, and too high."),
        _ if own > to => format!("The recipe's {own} is above the range; warm-up may carry it, or lower it."),
        _ => format!("The recipe's {own} is within the range, too."),
    }
}

/// Whether the test went on until the loss rose.
fn is_final(search: &RateSearch) -> bool {
    search.diverged || search.rose
}

/// A learning rate with two significant digits, which says as much as the test can.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.1e}").parse().unwrap_or(rate)
}

/// How many times as many steps a test has that tells a fall from noise, and steps after which more of them do not help.
const MORE_STEPS: u32 = 3;
const ENOUGH_STEPS: u32 = 300;

/// The command that trains with the suggested learning rate; if that is provisional, the test up to a higher one, with
/// more steps, or both.
fn next(arguments: &FindRate, search: &RateSearch, recipe: &Recipe) -> Option<Suggestion> {
    match wider(arguments, search) {
        // Of a run, training failed or is in doubt.
        None if search.is_within_noise() => run_of(arguments).and_then(again::lower_by_files),
        None => Some(training_with(search.steepest?, arguments, keeps(arguments, search, recipe), recipe)),
        wider => wider,
    }
}

/// The test up to a higher learning rate if the loss did not rise, with more steps if a fall may be chance, or both.
fn wider(arguments: &FindRate, search: &RateSearch) -> Option<Suggestion> {
    let higher = (!is_final(search)).then(|| ("--max-lr", rounded(10.0 * arguments.max_lr).to_string()));
    let more = || ("--steps", (MORE_STEPS * arguments.steps).to_string());
    let longer = (search.is_within_noise() && arguments.steps < ENOUGH_STEPS).then(more);
    let again: Vec<(&str, String)> = higher.into_iter().chain(longer).collect();
    (!again.is_empty()).then(|| Suggestion::again_with(&again))
}

/// Training with the tested recipe and a learning rate, or with its own.
fn training_with(rate: f64, arguments: &FindRate, keeps: bool, recipe: &Recipe) -> Suggestion {
    let rate = rounded(rate / recipe.schedule.batch_scaling.factor(recipe.data.batch)).to_string();
    let of = &arguments.recipe;
    let images = of.data.iter().chain(&of.source).cloned();
    let chosen = of.without_recipe().is_none().then(|| ["--recipe".to_owned(), of.name().to_owned()]);
    let settings = of.settings.iter().cloned().chain(of.shortcuts.settings());
    let settings = settings.filter(|setting| keeps || !setting.starts_with("schedule.learning_rate="));
    let pretrain = Suggestion::new(["pretrain"]).with(images).with(chosen.into_iter().flatten());
    let from = arguments.from.iter().flat_map(|from| ["--from".to_owned(), from.display().to_string()]);
    // A run that had its baseline gets it again.
    let pretrain = pretrain.with(from).with(run_of(arguments).and_then(baseline::of).map(|_| "--baseline"));
    let pretrain = pretrain.with(settings.flat_map(|setting| ["--set".to_owned(), setting]));
    if keeps { pretrain } else { pretrain.with(["--lr", &rate]) }
}

/// The run whose recipe is tested, which has trained with its learning rate.
fn run_of(arguments: &FindRate) -> Option<&Path> {
    let recipe = Path::new(arguments.recipe.name());
    recipe.parent().filter(|_| recipe.ends_with(RESOLVED))
}

/// The recipe, or the images for which one was chosen.
fn recipe_name(arguments: &FindRate) -> &str {
    arguments.recipe.without_recipe().unwrap_or(arguments.recipe.name())
}

/// Meaning of the lines and marks of the plot.
const TERMS: &str = "Smoothed is an exponential moving average, in which each step weighs 0.1. It falls from the rate at \
                     which a tenth of its fall lies behind, most steeply over the logarithm of the rate at steepest, to its \
                     lowest value.";

fn page(
    arguments: &FindRate,
    search: &RateSearch,
    summary: &[String],
    next: &Option<Suggestion>,
    recipe: String,
) -> String {
    let line = |name: &str, of: fn(&RateStep) -> f64| Series {
        name: name.into(),
        points: search.steps.iter().map(|step| (step.learning_rate, of(step))).collect(),
    };
    let marks = [("falls", search.falls_from), ("steepest", search.steepest), ("lowest", search.lowest)];
    let mark = |(label, place): (&str, Option<f64>)| Some(Mark { label: label.into(), x: place? });
    let plot = Plot {
        title: "loss".into(),
        x_label: "learning rate".into(),
        series: vec![line("loss", |step| step.loss), line("smoothed", |step| step.smoothed)],
        log_x: true,
        marks: marks.into_iter().filter_map(mark).collect(),
    };
    render(&ReportData {
        title: format!("equimod: learning rates for {}", recipe_name(arguments)),
        summary: "learning-rate range test".into(),
        verdict: summary.to_vec(),
        next: on_page(next),
        sections: vec![Section::new("Curves", vec![Figure::Lines(plot), Figure::Text(TERMS.into())])],
        recipe,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::recipes::built_in;

    #[test]
    fn rates_have_two_digits() {
        assert_eq!([rounded(0.012345), rounded(1000.0), rounded(2.96)], [0.012, 1000.0, 3.0]);
    }

    #[test]
    fn a_rate_within_the_range_is_kept_except_that_of_a_run() {
        let search = RateSearch {
            steps: Vec::new(),
            diverged: false,
            rose: true,
            falls_from: Some(0.1),
            steepest: Some(1.0),
            lowest: Some(2.0),
        };
        let keeps = |recipe: &str, rate: &str, search: &RateSearch| {
            let Command::FindRate(arguments) =
                Cli::try_parse_from(["equimod", "find-lr", "--recipe", recipe]).unwrap().command
            else {
                panic!("find-lr is another command");
            };
            let rate = format!("schedule.learning_rate={rate}");
            super::keeps(&arguments, search, &built_in("quick", &[&rate, "schedule.batch_scaling=none"]).unwrap())
        };
        let kept = ["0.09", "0.1", "2.0", "2.1"].map(|rate| keeps("quick", rate, &search));
        assert_eq!(kept, [false, true, true, false]);
        assert!(!keeps("out/a/recipe.resolved.toml", "1.0", &search));
        assert!(!keeps("quick", "1.0", &RateSearch { rose: false, ..search }));
    }

    #[test]
    fn the_rate_of_the_recipe_is_placed_in_the_range() {
        let range = [0.1, 2.0];
        for (own, word) in [(0.09, "below"), (0.1, "within"), (2.0, "within"), (2.1, "above")] {
            assert!(place(own, range, true).contains(word), "{own}");
        }
        assert!(place(2.1, range, false).contains("above the rate of the lowest loss"));
    }
}
