//! Facts about the training of a run, from its metrics, for the verdict.

use std::path::Path;

use equimod_eval::study::{deviation, mean};
use equimod_eval::verdict::{TrainingFacts, VERY_SHORT};
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{Recipe, RunInfo, Status, recorded};

use crate::run::baseline;
use crate::run::files::Metrics;
use crate::run_state::status;

/// Facts about a model that is a run; `None` for other models, and if a file cannot be read.
pub fn of_run(model: &Path) -> Option<TrainingFacts> {
    let recipe = recorded(&model.join(RESOLVED)).ok()?;
    training_facts(model, &recipe, Metrics::read(model).ok()?.steps()).ok()
}

/// Whether a model is a run that was too short, and not one whose loss did not fall.
pub fn is_short(model: &Path) -> bool {
    is_sound(model, TrainingFacts::is_too_short)
}

/// Whether a model is a run of which longer training may mend disappointing results.
pub fn is_unsettled(model: &Path) -> bool {
    is_sound(model, TrainingFacts::is_unsettled)
}

fn is_sound(model: &Path, is_wanted: fn(&TrainingFacts) -> bool) -> bool {
    let is_it = |facts: TrainingFacts| is_wanted(&facts) && !facts.has_failed() && facts.flat.is_none();
    is_run(model) && of_run(model).is_some_and(is_it)
}

/// Facts about the run in the directory `run`, which has `steps` steps.
///
/// # Errors
///
/// If the metrics cannot be read.
pub fn training_facts(run: &Path, recipe: &Recipe, steps: u64) -> anyhow::Result<TrainingFacts> {
    let metrics = Metrics::read(run)?;
    let points = |key: &str| metrics.series("", key).points;
    let per_epoch = steps as f64 / recipe.schedule.epochs.max(1) as f64;
    let warmup_steps = (recipe.schedule.warmup_epochs * per_epoch).round() as u64;
    let losses: Vec<f64> = points("loss").into_iter().map(|(_, loss)| loss).collect();
    let collapsed = metrics.names().into_iter().find_map(|name| {
        let least = match name.rsplit('.').next() {
            Some("effective_rank") => recipe.guard.least_rank,
            Some("embedding_std") => recipe.guard.least_std,
            _ => return None,
        };
        let value = low_at_the_end(&points(&name), least, recipe.guard.patience)?;
        Some((name, value))
    });
    let equivariance = metrics.names().into_iter().filter_map(|name| {
        let value = points(&name).last()?.1;
        Some((name.strip_suffix(".absolute_equivariance")?.to_owned(), value))
    });
    let equivariance = equivariance.collect();
    let info = RunInfo::read(run)?;
    let started_from = info.from.as_ref().map(|from| from.model.clone());
    let (risen, unchanged, flat) = without_fall(&losses, started_from.is_some());
    let still_falling = decrease(&losses);
    let unfinished = (info.status != Status::Finished).then(|| status(run, &info));
    Ok(TrainingFacts {
        steps,
        warmup_steps,
        collapsed,
        still_falling,
        risen,
        unchanged,
        flat,
        baseline_failure: baseline::finished(run).and_then(|baseline| of_run(&baseline)?.failure()),
        started_from,
        unfinished,
        equivariance,
    })
}

/// The median of a metric over the last `steps` steps if it is below `least`, i.e. most values are, as in the guard of
/// training; `None` for fewer steps.
fn low_at_the_end(points: &[(f64, f64)], least: f64, steps: u64) -> Option<f64> {
    let (end, _) = points.last()?;
    let start = end - steps as f64;
    let mut last: Vec<f64> = points.iter().filter(|(step, _)| *step > start).map(|(_, value)| *value).collect();
    last.sort_by(f64::total_cmp);
    let median = *last.get(last.len() / 2)?;
    (start >= 0.0 && median < least).then_some(median)
}

/// Fewest losses that tell whether they rose.
const FEWEST: usize = 4;
/// Rise, as a share of the first loss, above which few losses rose.
const CLEAR: f64 = 0.05;
/// Fall, as a share of the first loss, below which a loss that rose came back to its start.
const SLIGHT: f64 = 0.02;

/// Mean losses by [`rise`], [`return_to_start`] and [`flat`].
type WithoutFall = (Option<(f64, f64)>, Option<(f64, f64, f64)>, Option<(f64, f64)>);

/// How the loss of a run did not fall. Trained weights begin with a low loss, which may rise slightly.
fn without_fall(losses: &[f64], is_from_trained: bool) -> WithoutFall {
    let risen = rise(losses);
    if is_from_trained {
        return (risen.filter(|(start, end)| is_clear_rise(*start, *end)), None, None);
    }
    let unchanged = return_to_start(losses);
    let flat = flat(losses).filter(|_| risen.is_none() && unchanged.is_none());
    (risen, unchanged, flat)
}

fn is_clear_rise(start: f64, end: f64) -> bool {
    end - start > CLEAR * start.abs()
}

/// Mean losses of the first twentieth and the last fifth if the latter is higher, of fewer losses than [`VERY_SHORT`] clearly
/// higher.
fn rise(losses: &[f64]) -> Option<(f64, f64)> {
    // A single first loss is no start of twenty or more.
    let least = if losses.len() < 20 { 1 } else { 3 };
    let (first, last) = ((losses.len() / 20).max(least), (losses.len() / 5).max(1));
    if losses.len() < FEWEST {
        return None;
    }
    let (start, end) = (mean(&losses[..first]), mean(&losses[losses.len() - last..]));
    // Of the first losses there may be one alone; those at the end tell how much single ones differ.
    let noise = deviation(&losses[losses.len() - last..]).unwrap_or_default();
    let error = noise * (1.0 / first as f64 + 1.0 / last as f64).sqrt();
    let is_enough = losses.len() >= VERY_SHORT as usize || is_clear_rise(start, end);
    (is_enough && end > start + 2.0 * error).then_some((start, end))
}

/// Mean losses of the first and the last fifth, if their difference is less than twice its standard error; `None` for fewer
/// losses than [`VERY_SHORT`], which may differ more by chance than by training.
fn flat(losses: &[f64]) -> Option<(f64, f64)> {
    let fifth = losses.len() / 5;
    if losses.len() < VERY_SHORT as usize {
        return None;
    }
    let (first, last) = (&losses[..fifth], &losses[losses.len() - fifth..]);
    let error = standard_error(first, last)?;
    let (start, end) = (mean(first), mean(last));
    ((start - end).abs() < 2.0 * error).then_some((start, end))
}

/// Standard error of the difference of two means.
fn standard_error(one: &[f64], other: &[f64]) -> Option<f64> {
    let squared = |values: &[f64]| deviation(values).map(|deviation| deviation.powi(2) / values.len() as f64);
    Some((squared(one)? + squared(other)?).sqrt())
}

/// Mean losses of the first twentieth, of the highest twentieth and of the last fifth, if the loss clearly rose in between
/// and ended less than a fiftieth below its start; `None` for few losses.
fn return_to_start(losses: &[f64]) -> Option<(f64, f64, f64)> {
    let (twentieth, fifth) = (losses.len() / 20, losses.len() / 5);
    if twentieth == 0 {
        return None;
    }
    let (start, end) = (mean(&losses[..twentieth]), mean(&losses[losses.len() - fifth..]));
    let highest = losses.chunks_exact(twentieth).map(mean).fold(f64::NEG_INFINITY, f64::max);
    // The highest of many means of few losses lies above the others by chance.
    let noise = deviation(&losses[losses.len() - fifth..]).unwrap_or_default() * (2.0 / twentieth as f64).sqrt();
    let is_back = highest > start + (CLEAR * start.abs()).max(3.0 * noise) && end > start - SLIGHT * start.abs();
    is_back.then_some((start, highest, end))
}

/// Relative decrease of the mean from the last fifth but one to the last fifth; `None` for fewer than ten values, and if
/// it is less than twice its standard error.
fn decrease(losses: &[f64]) -> Option<f64> {
    let fifth = losses.len() / 5;
    if fifth < 2 {
        return None;
    }
    let (before, last) = losses[losses.len() - 2 * fifth..].split_at(fifth);
    let error = standard_error(before, last)?;
    let (before, last) = (mean(before), mean(last));
    let decrease = Some((before - last) / before.abs()).filter(|decrease| decrease.is_finite());
    decrease.filter(|_| (before - last).abs() >= 2.0 * error)
}

#[cfg(test)]
mod tests {
    use super::{decrease, flat, low_at_the_end, return_to_start, rise, without_fall};

    #[test]
    fn embeddings_collapsed_that_are_low_in_most_of_the_last_steps() {
        let points = |low: usize| -> Vec<(f64, f64)> {
            (1..=100).map(|step| (f64::from(step as u32), if step > 100 - low { 1.5 } else { 3.0 })).collect()
        };
        assert_eq!([25, 26].map(|low| low_at_the_end(&points(low), 2.0, 50)), [None, Some(1.5)]);
        // Neither one low step at the end nor a single high one decides.
        assert_eq!(low_at_the_end(&points(1), 2.0, 50), None);
        let mut jumping = points(60);
        jumping.iter_mut().skip(1).step_by(3).for_each(|(_, value)| *value = 9.0);
        assert_eq!(low_at_the_end(&jumping, 2.0, 50), Some(1.5));
        // Of a run that is shorter than that, nothing can be said.
        assert_eq!([49, 50].map(|steps| low_at_the_end(&points(100)[..steps], 2.0, 50)), [None, Some(1.5)]);
    }

    #[test]
    fn a_loss_that_ends_above_its_start_rose() {
        let of = |end: f64| -> Vec<f64> { (0..20).map(|step| if step < 10 { 4.0 } else { end }).collect() };
        assert_eq!(rise(&of(5.0)), Some((4.0, 5.0)));
        assert_eq!((rise(&of(4.0)), rise(&of(5.0)[..10])), (None, None));
        // Twelve losses at the end have a deviation of 0.52, and there are three at first: the standard error is 0.337.
        let noisy = |end: f64| -> Vec<f64> {
            let at = |step: usize| end + if step.is_multiple_of(2) { 0.5 } else { -0.5 };
            (0..60).map(|step| if step < 3 { 4.0 } else { at(step) }).collect()
        };
        assert!(rise(&noisy(4.70)).is_some() && rise(&noisy(4.65)).is_none());
        assert_eq!(rise(&[10.0, 13.0, 13.2, 14.3]), Some((10.0, 14.3)));
        // Of fewer than a hundred losses, a rise below a twentieth is not clear.
        let slight = |count: usize, end: f64| {
            rise(&(0..count).map(|step| if step < count / 2 { 4.0 } else { end }).collect::<Vec<f64>>())
        };
        assert_eq!(
            [(99, 4.19), (99, 4.21), (100, 4.19)].map(|(count, end)| slight(count, end).is_some()),
            [false, true, true]
        );
        // The first of twenty losses alone is no start: 5.5, 7.5 and 6.5 are within two errors of 0.44 of the end.
        let one_low: Vec<f64> = std::iter::once(5.5).chain(noisy(7.0)[3..22].iter().copied()).collect();
        assert_eq!((one_low.len(), rise(&one_low)), (20, None));
        assert_eq!((rise(&[10.0, 13.0, 14.3]), rise(&[10.0, 9.0, 10.0, 10.4])), (None, None));
    }

    #[test]
    fn a_loss_that_differs_by_less_than_its_noise_is_flat() {
        let noisy = |end: f64| -> Vec<f64> {
            let at = |step: usize| if step < 80 { 10.0 } else { end };
            (0..100).map(|step| at(step) + if step.is_multiple_of(2) { 0.5 } else { -0.5 }).collect()
        };
        // Fifths of 20 losses have a deviation of 0.513: twice the standard error is 0.324.
        assert!(flat(&noisy(9.7)).is_some() && flat(&noisy(9.6)).is_none());
        assert_eq!((flat(&noisy(10.0)[..99]), flat(&noisy(10.4))), (None, None));
    }

    #[test]
    fn from_trained_weights_a_loss_need_not_fall() {
        let of = |end: f64| -> Vec<f64> { (0..100).map(|step| if step < 50 { 4.0 } else { end }).collect() };
        let fails = |end: f64, is_from_trained: bool| without_fall(&of(end), is_from_trained).0.is_some();
        assert_eq!(
            [(4.19, false), (4.19, true), (4.21, true)].map(|(end, from)| fails(end, from)),
            [true, false, true]
        );
        let noisy: Vec<f64> = (0..100).map(|step| if step % 2 == 0 { 4.0 } else { 5.0 }).collect();
        assert!(without_fall(&noisy, false).2.is_some() && without_fall(&noisy, true) == (None, None, None));
    }

    #[test]
    fn a_loss_that_rose_and_came_back_did_not_fall() {
        let losses = |highest: f64, end: f64| [[10.0; 20], [highest; 20], [end; 20]].concat();
        assert_eq!(return_to_start(&losses(13.0, 10.0)), Some((10.0, 13.0, 10.0)));
        assert_eq!(return_to_start(&losses(13.0, 9.81)), Some((10.0, 13.0, 9.81)));
        for (highest, end) in [(13.0, 9.79), (10.4, 10.0)] {
            assert_eq!(return_to_start(&losses(highest, end)), None, "{highest} {end}");
        }
        assert_eq!(return_to_start(&[10.0; 19]), None);
        // Losses that differ by 1 have means of three with an error of 0.86; thrice that is above the rise of 2.
        let noisy = |size: f64| -> Vec<f64> {
            let noise = |step: usize| if step.is_multiple_of(2) { size } else { -size };
            losses(12.0, 10.0).into_iter().enumerate().map(|(step, loss)| loss + noise(step)).collect()
        };
        assert!(return_to_start(&noisy(1.0)).is_none() && return_to_start(&noisy(0.1)).is_some());
    }

    #[test]
    fn the_decrease_is_that_of_the_last_fifths() {
        let losses: Vec<f64> = (0..10).map(|step| if step < 8 { 4.0 } else { 3.0 }).collect();
        assert_eq!(decrease(&losses), Some(0.25));
        assert_eq!(decrease(&losses[..9]), None);
        // With a standard deviation of 1 in fifths of 50 losses, the standard error is 0.2.
        let noisy = |fall: f64| -> Vec<f64> {
            let noise = (49.0f64 / 50.0).sqrt();
            let value = |step: usize| if step < 200 { 8.0 } else { 8.0 - fall };
            (0..250).map(|step| value(step) + if step.is_multiple_of(2) { noise } else { -noise }).collect()
        };
        assert!((decrease(&noisy(0.41)).unwrap() - 0.41 / 8.0).abs() < 1e-9);
        assert_eq!(decrease(&noisy(0.39)), None);
        assert_eq!(decrease(&[0.0; 10]), None);
        assert_eq!(decrease(&[-2.0, -2.0, -2.0, -2.0, -2.0, -2.0, -2.0, -2.0, -3.0, -3.0]), Some(0.5));
    }
}
