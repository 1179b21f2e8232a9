//! Commands that repeat the training of a run with other settings.

use std::path::{Path, PathBuf};

use equimod_eval::evaluation::TOP_1;
use equimod_train::recipe::ScheduleRecipe;
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{Recipe, RunInfo, Status, recorded};

use super::files::{Metrics, all_results};
use super::labels::labeled_images;
use super::{baseline, facts, lengths, seeds};
use crate::outputs::suggestion::Suggestion;
use crate::reference::PREFIX;
use crate::run_state::is_killed;

/// Fewest steps of a longer run that is suggested.
const FEWEST: u64 = 500;

/// The command that trains with the recipe and initial weights of the run in the folder `run`, and a baseline if the run
/// has one.
pub fn again(run: &Path, info: &RunInfo) -> Suggestion {
    alone(run, info).with(baseline::of(run).map(|_| "--baseline"))
}

/// [`again`] without the baseline.
fn alone(run: &Path, info: &RunInfo) -> Suggestion {
    of_run("pretrain", run, info)
}

/// A command with the recipe and initial weights of a run.
fn of_run(command: &str, run: &Path, info: &RunInfo) -> Suggestion {
    let recipe = run.join(RESOLVED).display().to_string();
    let from = info.from.iter().flat_map(|from| ["--from", &from.model]);
    Suggestion::new([command, "--recipe", &recipe]).with(from)
}

/// [`with_seed`] without the baseline.
pub fn alone_with_seed(run: &Path, info: &RunInfo, seed: u64) -> Suggestion {
    let remark = format!("{} with another seed", run.display());
    alone(run, info).with(["--seed", &seed.to_string()]).about(&remark)
}

/// The evaluation of a run with few labels, which is harder, beside its untrained network and its baseline, on these images
/// or on those with labels.
pub fn few_shot(run: &Path, data: Option<&str>) -> Suggestion {
    let baseline = baseline::finished(run).map(|_| "--baseline");
    let evaluate = Suggestion::new(["eval", "few-shot", &run.display().to_string(), "--untrained"]).with(baseline);
    evaluate.with(images(&[run.to_owned()], data)).about("with few labels, which is harder")
}

/// The comparison of pairs of runs, on these images or on those with labels.
pub fn compare(pairs: &[PathBuf], data: Option<&str>) -> Suggestion {
    let compare = Suggestion::new(["eval", "compare"]).with(pairs.iter().map(|run| run.display().to_string()));
    compare.with(images(pairs, data))
}

/// The option that names images with labels, if they are not the runs' own.
pub fn images(runs: &[PathBuf], data: Option<&str>) -> Vec<String> {
    labeled_images(runs, data).into_iter().flat_map(|images| ["--data".to_owned(), images]).collect()
}

/// The comparison of a run with the weights that its training started from, if these are there.
pub fn against_start(run: &Path, info: &RunInfo) -> Option<Suggestion> {
    let start = PathBuf::from(&info.from.as_ref()?.model);
    let is_there = start.exists() || start.to_string_lossy().starts_with(PREFIX);
    let compared =
        compare(&[start, run.to_owned()], None).about("what this training added to the weights it started from");
    is_there.then_some(compared)
}

/// What follows from two runs of one recipe: the comparison with their baselines over the seeds that were trained, or the
/// baseline of one of them, if it has none. `data` are images of the comparison, and `by` its classifier.
pub fn of_one_recipe(run: &Path, data: Option<&str>, by: &[&str]) -> Option<Suggestion> {
    let pairs = seeds::pairs(run);
    if pairs.len() > 2 {
        let about = format!("against their baselines, {}", seeds::tested(&pairs));
        return Some(compare(&pairs, data).with(by).about(&about));
    }
    let recipe = recorded(&run.join(RESOLVED)).ok()?;
    let can_have_one = baseline::of(run).is_none() && !baseline::weighted_modules(&recipe).is_empty();
    can_have_one.then(|| baseline::add(&run.display().to_string()).about("also train without the module's loss"))
}

/// The command that goes on with a run that has not ended, or with its baseline; `None` if there is nothing to go on with,
/// and while a process trains.
pub fn resume(run: &Path) -> Option<Suggestion> {
    if let Some(run) = baseline::run_of(run) {
        return resume(run);
    }
    let info = RunInfo::read(run).ok().filter(|_| is_run(run))?;
    let resume = Suggestion::new(["pretrain", "--resume", "--out", &run.display().to_string()]);
    match info.status {
        Status::Finished => {
            let baseline = baseline::of(run)?;
            let is_open = is_resumable(&baseline, &RunInfo::read(&baseline).ok()?);
            is_open.then(|| resume.with(["--baseline"]).about("its baseline was not finished"))
        }
        _ if is_resumable(run, &info) => Some(resume.with(baseline::was_asked_for(&info).then_some("--baseline"))),
        _ => None,
    }
}

/// Whether a run was stopped or killed, or ended with an error.
fn is_resumable(run: &Path, info: &RunInfo) -> bool {
    matches!(info.status, Status::Interrupted | Status::Failed) || is_killed(run, info)
}

/// [`again`] with another seed.
pub fn with_seed(run: &Path, info: &RunInfo, seed: u64) -> Suggestion {
    again(run, info).with(["--seed", &seed.to_string()]).about("whether another seed says the same")
}

/// Share of a run from which its warm-up is long, and the share and largest number of epochs of a usual one.
const LONG_WARMUP: f64 = 0.25;
const USUAL_WARMUP: f64 = 0.1;
const USUAL_EPOCHS: f64 = 10.0;

/// Share of the epochs of a schedule that are warm-up.
fn share(schedule: &ScheduleRecipe) -> f64 {
    schedule.warmup_epochs / schedule.epochs.max(1) as f64
}

fn rounded(epochs: f64) -> f64 {
    (epochs * 1e3).round() / 1e3
}

/// Epochs of warm-up of a longer run of `epochs` that otherwise has this schedule: the same share or, of a long warm-up, a
/// usual one, and not more epochs than usual or before.
fn longer_warmup(schedule: &ScheduleRecipe, epochs: u64) -> f64 {
    let share = if share(schedule) >= LONG_WARMUP { USUAL_WARMUP } else { share(schedule) };
    rounded((epochs as f64 * share).min(schedule.warmup_epochs.max(USUAL_EPOCHS)))
}

/// Epochs of warm-up of a run of so few `epochs` that the warm-up of its schedule would be long, or longer than the run if it
/// is long by itself: a usual share, or the schedule's own if that is larger.
pub fn shorter_warmup(schedule: &ScheduleRecipe, epochs: u64) -> Option<f64> {
    let (own, whole) = (share(schedule), epochs as f64);
    let is_much = match own {
        own if own >= LONG_WARMUP => schedule.warmup_epochs > whole,
        _ => schedule.warmup_epochs >= LONG_WARMUP * whole,
    };
    (is_much && epochs < schedule.epochs).then(|| rounded(whole * own.clamp(USUAL_WARMUP, 1.0)))
}

/// What follows for a run of `steps` steps that may be too short: the comparison with a run that was trained for longer,
/// or for less, if there is one, or longer training.
pub fn longer(run: &Path, info: &RunInfo, recipe: &Recipe, steps: u64) -> Option<Suggestion> {
    if let Some(longer) = lengths::longer(run) {
        let about = format!("{} was trained for longer", longer.display());
        return Some(side_by_side([run, &longer]).about(&about));
    }
    match lengths::shorter(run) {
        Some(shorter) => Some(side_by_side([&shorter, run]).about("whether longer training gained")),
        None => train_longer(again(run, info), &recipe.schedule, steps),
    }
}

/// The comparison of two runs, or the report on both if they have no accuracy.
fn side_by_side(runs: [&Path; 2]) -> Suggestion {
    let runs = runs.map(Path::to_owned);
    let has_accuracy = |run: &PathBuf| all_results(run).is_ok_and(|rows| rows.iter().any(|row| row.metric == TOP_1));
    match runs.iter().all(has_accuracy) {
        true => compare(&runs, None),
        false => Suggestion::new(["report"]).with(runs.iter().map(|run| run.display().to_string())),
    }
}

/// A training with the epochs and the warm-up of a longer schedule; `None` if the schedule is as long as usual ones.
fn train_longer(training: Suggestion, schedule: &ScheduleRecipe, steps: u64) -> Option<Suggestion> {
    let epochs = longer_epochs(schedule.epochs, steps)?;
    let longer = training.with(["--epochs", &epochs.to_string()]);
    let longer = match longer_warmup(schedule, epochs) {
        0.0 => longer,
        warmup => longer.with(["--set", &format!("schedule.warmup_epochs={warmup:?}")]),
    };
    Some(longer.about(&match epochs % schedule.epochs.max(1) {
        0 => format!("{} times as long", epochs / schedule.epochs.max(1)),
        _ => format!("{epochs} epochs instead of {}", schedule.epochs),
    }))
}

/// Longer training of a run without its baseline, for one of several runs; `None` if there is such a run.
pub fn alone_longer_by_files(run: &Path) -> Option<Suggestion> {
    let (info, recipe, steps) = files_of(run)?;
    let longer = train_longer(alone(run, &info), &recipe.schedule, steps).filter(|_| lengths::longer(run).is_none())?;
    let about = format!("{}, {}", run.display(), longer.remark());
    Some(longer.about(&about))
}

/// Longer training of a run that may have been trained for longer than another one, or the comparison with one that was
/// trained for longer.
pub fn still_longer_by_files(run: &Path) -> Option<Suggestion> {
    let (info, recipe, steps) = files_of(run)?;
    match lengths::longer(run) {
        Some(_) => longer(run, &info, &recipe, steps),
        None => train_longer(again(run, &info), &recipe.schedule, steps),
    }
}

/// [`still_longer_by_files`] of a run that was too short.
pub fn still_longer_if_short(run: &Path) -> Option<Suggestion> {
    if facts::is_short(run) { still_longer_by_files(run) } else { None }
}

/// [`longer`] by the files of the run; `None` for other folders, and if a file cannot be read.
pub fn longer_by_files(run: &Path) -> Option<Suggestion> {
    let (info, recipe, steps) = files_of(run)?;
    longer(run, &info, &recipe, steps)
}

/// Metadata, recipe and number of steps of a run.
fn files_of(run: &Path) -> Option<(RunInfo, Recipe, u64)> {
    let info = RunInfo::read(run).ok().filter(|_| is_run(run))?;
    Some((info, recorded(&run.join(RESOLVED)).ok()?, Metrics::read(run).ok()?.steps()))
}

/// [`again`] at a third of the learning rate, or at a usual one of AdamW.
pub fn lower(run: &Path, info: &RunInfo, recipe: &Recipe) -> Suggestion {
    if recipe.has_large_rate_for_adamw() {
        return again(run, info).with(["--lr", "0.001"]).about("a usual learning rate of AdamW");
    }
    // Two digits are enough.
    let rate = format!("{:.1e}", recipe.schedule.learning_rate / 3.0).parse::<f64>().unwrap_or_default();
    again(run, info).with(["--lr", &rate.to_string()]).about("a third of the learning rate")
}

/// [`lower`] by the files of the run; `None` for other folders, and if a file cannot be read.
pub fn lower_by_files(run: &Path) -> Option<Suggestion> {
    let info = RunInfo::read(run).ok().filter(|_| is_run(run))?;
    Some(lower(run, &info, &recorded(&run.join(RESOLVED)).ok()?))
}

/// The command that finds learning rates at which the loss of a run falls, or [`lower`] where a usual one is known.
pub fn find_rate(run: &Path, info: &RunInfo, recipe: &Recipe) -> Suggestion {
    if recipe.has_large_rate_for_adamw() {
        return lower(run, info, recipe);
    }
    of_run("find-lr", run, info).about("learning rates at which the loss falls")
}

/// [`find_rate`] by the files of the run; `None` for other folders, and if a file cannot be read.
pub fn find_rate_by_files(run: &Path) -> Option<Suggestion> {
    let info = RunInfo::read(run).ok().filter(|_| is_run(run))?;
    Some(find_rate(run, &info, &recorded(&run.join(RESOLVED)).ok()?))
}

/// What follows for runs whose loss rose: the search for learning rates at which it falls or, of a baseline alone, a lower
/// rate for it and its run.
pub fn other_rates<'a>(runs: impl IntoIterator<Item = &'a Path>) -> Vec<Suggestion> {
    let has_risen = |run: &Path| facts::of_run(run).is_some_and(|facts| facts.has_risen());
    let other_rate = |run: &'a Path| match baseline::run_of(run) {
        Some(whose) if has_risen(whose) => find_rate_by_files(whose),
        Some(whose) => lower_by_files(whose),
        None => find_rate_by_files(run),
    };
    let mut found: Vec<Suggestion> = runs.into_iter().filter(|run| has_risen(run)).filter_map(other_rate).collect();
    found.dedup();
    found
}

/// Epochs of a usual long training, beyond which none is suggested.
const MOST_EPOCHS: u64 = 800;

/// Epochs of a longer run: four times as many, or as many as give it [`FEWEST`] steps, and at most [`MOST_EPOCHS`].
fn longer_epochs(epochs: u64, steps: u64) -> Option<u64> {
    let longer = (FEWEST.div_ceil(steps.max(1)).max(4) * epochs).min(MOST_EPOCHS);
    (longer > epochs).then_some(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_ups_follow_the_length_of_a_run() {
        let of = |warmup_epochs, epochs| ScheduleRecipe { warmup_epochs, epochs, ..ScheduleRecipe::default() };
        // 5 % of a recipe: a tenth of a run in which it would take a quarter.
        let usual = of(10.0, 200);
        let found = [9, 10, 40, 41, 200].map(|epochs| shorter_warmup(&usual, epochs));
        assert_eq!(found, [Some(0.9), Some(1.0), Some(4.0), None, None]);
        // A recipe with a long one keeps its share where it would not end.
        let found = [1, 2, 3].map(|epochs| shorter_warmup(&of(2.0, 4), epochs));
        assert_eq!(found, [Some(0.5), None, None]);
        let longer = [(of(10.0, 40), 280), (of(0.2, 2), 8), (of(20.0, 800), 1600), (of(0.0, 1), 4)];
        assert_eq!(longer.map(|(schedule, epochs)| longer_warmup(&schedule, epochs)), [10.0, 0.8, 20.0, 0.0]);
    }

    #[test]
    fn a_longer_run_has_steps_enough_and_usual_epochs() {
        let found = [(1, 0), (1, 2), (10, 192), (10, 5000), (300, 900), (800, 4)].map(|(e, s)| longer_epochs(e, s));
        assert_eq!(found, [Some(500), Some(250), Some(40), Some(40), Some(800), None]);
    }
}
