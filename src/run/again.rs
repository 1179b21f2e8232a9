//! Commands that repeat the training of a run with other settings.

use std::path::Path;

use equimod_train::recipe::ScheduleRecipe;
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{Recipe, RunInfo, Status, recorded};

use super::baseline;
use super::files::Metrics;
use crate::outputs::suggestion::Suggestion;
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
    let recipe = run.join(RESOLVED).display().to_string();
    let from = info.from.iter().flat_map(|from| ["--from", &from.model]);
    Suggestion::new(["pretrain", "--recipe", &recipe]).with(from)
}

/// [`with_seed`] without the baseline.
pub fn alone_with_seed(run: &Path, info: &RunInfo, seed: u64) -> Suggestion {
    let remark = format!("{} with another seed", run.display());
    alone(run, info).with(["--seed", &seed.to_string()]).about(&remark)
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
        _ if is_resumable(run, &info) => {
            Some(resume.with(info.command.iter().filter(|argument| *argument == "--baseline")))
        }
        _ => None,
    }
}

/// Whether a run was stopped or killed.
fn is_resumable(run: &Path, info: &RunInfo) -> bool {
    info.status == Status::Interrupted || is_killed(run, info)
}

/// [`again`] with another seed.
pub fn with_seed(run: &Path, info: &RunInfo, seed: u64) -> Suggestion {
    again(run, info).with(["--seed", &seed.to_string()]).about("whether another seed says the same")
}

/// Share of a run above which its warm-up does not grow with it, and the share that it has instead.
const LONG_WARMUP: f64 = 0.25;
const USUAL_WARMUP: f64 = 0.1;

/// Epochs of warm-up of a run of `epochs` that otherwise has this schedule: the same share, if that is not a long one.
pub fn warmup(schedule: &ScheduleRecipe, epochs: u64) -> f64 {
    let share = schedule.warmup_epochs / schedule.epochs.max(1) as f64;
    let share = if share > LONG_WARMUP { USUAL_WARMUP } else { share };
    (epochs as f64 * share * 1e3).round() / 1e3
}

/// [`again`] for longer than the run's `steps`, with the [`warmup`] that belongs to it.
pub fn longer(run: &Path, info: &RunInfo, recipe: &Recipe, steps: u64) -> Suggestion {
    let (times, schedule) = (times_longer(steps), &recipe.schedule);
    let epochs = times * schedule.epochs;
    let longer = again(run, info).with(["--epochs", &epochs.to_string()]);
    let longer = match warmup(schedule, epochs) {
        0.0 => longer,
        warmup => longer.with(["--set", &format!("schedule.warmup_epochs={warmup:?}")]),
    };
    longer.about(&format!("{times} times as long"))
}

/// [`longer`] by the files of the run; `None` for other folders, and if a file cannot be read.
pub fn longer_by_files(run: &Path) -> Option<Suggestion> {
    let info = RunInfo::read(run).ok().filter(|_| is_run(run))?;
    let steps = Metrics::read(run).ok()?.steps();
    Some(longer(run, &info, &recorded(&run.join(RESOLVED)).ok()?, steps))
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
    let recipe = run.join(RESOLVED).display().to_string();
    Suggestion::new(["find-lr", "--recipe", &recipe]).about("learning rates at which the loss falls")
}

/// [`find_rate`] by the files of the run; `None` for other folders, and if a file cannot be read.
pub fn find_rate_by_files(run: &Path) -> Option<Suggestion> {
    let info = RunInfo::read(run).ok().filter(|_| is_run(run))?;
    Some(find_rate(run, &info, &recorded(&run.join(RESOLVED)).ok()?))
}

/// How many times as long a run of too few steps should be: four times, or as often as gives it [`FEWEST`] steps.
fn times_longer(steps: u64) -> u64 {
    FEWEST.div_ceil(steps.max(1)).max(4)
}

#[cfg(test)]
mod tests {
    use super::times_longer;

    #[test]
    fn a_longer_run_has_steps_enough() {
        assert_eq!([0, 2, 192, 5000].map(times_longer), [500, 250, 4, 4]);
    }
}
