//! The command that follows an evaluation.

use std::path::{Path, PathBuf};

use equimod_core::ObjectiveConfig;
use equimod_eval::ResultRow;
use equimod_eval::evaluation::TOP_1;
use equimod_eval::results::{OTHER_EPOCHS, is_quick_search, searched_whole_range};
use equimod_eval::verdict::{Advice, VERY_SHORT, is_disappointing, is_saturated, of_baseline};
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{RunInfo, Status, recorded};

use super::{Kept, other_draw};
use crate::cli::BUNDLED;
use crate::inputs::evaluated_data::found;
use crate::outputs::suggestion::Suggestion;
use crate::reference::{PREFIX, plain_name};
use crate::run::again::{
    against_start, compare, few_shot, find_rate_by_files, images, longer_by_files, lower_by_files, resume, with_seed,
};
use crate::run::baseline::{self, weighted_modules};
use crate::run::facts::{is_short, is_unsettled, of_run};
use crate::run::files::all_results;
use crate::run::seeds;

/// The command that answers the next question about a model that was evaluated: the same evaluation of the untrained
/// network, longer training of a run whose predictions are no use, or a comparison with the run's baseline.
///
/// `kept` are arguments of the evaluation, and `rows` its results.
pub fn after_evaluation(advice: Option<Advice>, model: &Path, kept: &Kept, rows: &[ResultRow]) -> Vec<Suggestion> {
    if let Some(next) = before_all(model) {
        return next;
    }
    if let Some(run) = baseline::run_of(model) {
        let untrained = (advice == Some(Advice::EvaluateUntrained)).then(|| Suggestion::again().with(["--untrained"]));
        let pair = [model.to_owned(), run.to_owned()];
        let compare = has_accuracy(model, rows).then(|| against_baseline(&pair, kept, rows));
        return untrained.into_iter().chain(compare).collect();
    }
    let next = answer(advice, model, kept, rows);
    // Whatever the answer, the run may have been too short for it.
    let is_other = !(advice.is_some_and(Advice::is_conclusive) && next.is_some());
    let disappoints = is_disappointing(rows);
    let is_short = is_short(model) || (disappoints && is_unsettled(model));
    let longer = if is_other && is_short { longer_by_files(model) } else { None };
    let info = RunInfo::read(model).ok().filter(|_| is_other && has_accuracy(model, rows));
    let start = info.and_then(|info| against_start(model, &info));
    // Of very few steps, or where they disappoint, nothing else tells much.
    let is_first = disappoints || of_run(model).is_some_and(|facts| facts.steps < VERY_SHORT);
    let (before, after) = if is_first { (longer, None) } else { (None, longer) };
    let drawn = other_draw(kept, rows);
    before.into_iter().chain(start).chain(next).chain(drawn).chain(after).collect()
}

/// The commands that come before all others: of a run that is not finished, or has a baseline that is not.
fn before_all(model: &Path) -> Option<Vec<Suggestion>> {
    let info = RunInfo::read(model).ok().filter(|_| is_run(model))?;
    match info.status {
        Status::Diverged => Some(find_rate_by_files(model).into_iter().collect()),
        // A run whose loss did not fall is nothing to build on.
        Status::Finished if of_run(model).is_some_and(|run| run.did_not_fall()) => {
            Some(find_rate_by_files(model).into_iter().collect())
        }
        Status::Finished => resume(model).map(|resume| vec![resume]),
        _ => Some(resume(model).into_iter().collect()),
    }
}

/// The command that answers the next question.
fn answer(advice: Option<Advice>, model: &Path, kept: &Kept, rows: &[ResultRow]) -> Option<Suggestion> {
    match advice {
        Some(Advice::LowerRate) if is_run(model) => return lower_by_files(model),
        Some(Advice::FindRate) if is_run(model) => return find_rate_by_files(model),
        Some(Advice::EvaluateUntrained) => {
            let baseline = baseline::finished(model).filter(|_| !rows.iter().any(|row| row.baseline.is_some()));
            // With the published epochs.
            let has_others = rows.iter().any(|row| row.detail.contains(OTHER_EPOCHS));
            let again = if has_others { Suggestion::again_without_option("--epochs") } else { Suggestion::again() };
            return Some(again.with(["--untrained"]).with(baseline.map(|_| "--baseline")));
        }
        Some(Advice::TrainLonger) if is_run(model) => return longer_by_files(model),
        Some(Advice::FitToOptimum) if !all_results(model).is_ok_and(|rows| rows.iter().any(searched_whole_range)) => {
            let baseline = baseline::finished(model).map(|_| "--baseline");
            let logistic = Suggestion::new(["eval", "logistic", &model.display().to_string(), "--untrained"]);
            let logistic = logistic.with(baseline).with(images(&[model.to_owned()], kept.data())).with(&kept.others);
            return Some(logistic.about("whether a classifier that is fitted to the optimum says the same"));
        }
        Some(Advice::EvaluateFewShot) => {
            return Some(few_shot(model, kept.data()).with(&kept.others));
        }
        _ => {}
    }
    if baseline::of(model).is_some() {
        // It has the learning rate of its run.
        if of_baseline(rows).is_some() && of_run(model).is_some_and(|facts| facts.baseline_failure.is_some()) {
            return lower_by_files(model);
        }
        let is_paired = rows.iter().any(|row| row.over_baseline.is_some() && !is_quick_search(row));
        let is_compared = |row: &ResultRow| ["knn", "logistic"].contains(&row.protocol.as_str());
        // What `eval compare` does not measure, the same evaluation does.
        let is_other = !rows.iter().any(|row| is_compared(row) || row.baseline.is_some());
        if is_other && kept.is_of_this && rows.iter().any(|row| !row.is_of_predictor()) {
            return Some(Suggestion::again().with(["--baseline"]).about("also of the baseline"));
        }
        // Where all images are right, no accuracy differs, and without labels, there is none.
        return match is_paired || is_saturated(&all_results(model).unwrap_or_default()) {
            true => over_seeds(model, kept, rows),
            false => {
                let pairs = seeds::pairs(model);
                (!pairs.is_empty() && has_accuracy(model, rows)).then(|| against_baseline(&pairs, kept, rows))
            }
        };
    }
    let file = model.join(RESOLVED);
    let recipe = recorded(&file).ok().filter(|recipe| !matches!(recipe.objective, ObjectiveConfig::None(_)))?;
    let can_have_one = !weighted_modules(&recipe).is_empty();
    // The images may have moved since.
    let source = found(recipe.data.source.clone(), &file);
    let has_moved = source != BUNDLED && !source.starts_with(PREFIX) && !Path::new(&source).exists();
    let moved = kept.data.as_deref().filter(|_| has_moved).into_iter().flat_map(|data| ["--data", data]);
    let add = baseline::add(&model.display().to_string()).with(moved);
    can_have_one.then(|| add.about("also train without the module's loss"))
}

/// Whether a model has an accuracy among its rows or, of a run, its other results.
fn has_accuracy(model: &Path, rows: &[ResultRow]) -> bool {
    let own = recorded(&model.join(RESOLVED)).map_or_else(|_| String::new(), |recipe| recipe.data.source);
    let others = all_results(model).unwrap_or_default();
    let on_own = others.iter().filter(|row| plain_name(&row.data) == plain_name(&own));
    rows.iter().chain(on_own).any(|row| row.metric == TOP_1)
}

/// The comparison over all seeds of a run that was compared with its baseline, or training with another seed.
fn over_seeds(run: &Path, kept: &Kept, rows: &[ResultRow]) -> Option<Suggestion> {
    let pairs = seeds::pairs(run);
    match pairs.len() {
        0..=2 => Some(with_seed(run, &RunInfo::read(run).ok()?, seeds::next_seed([run]))),
        _ => Some(against_baseline(&pairs, kept, rows)),
    }
}

/// The comparison of pairs of baselines and their runs as they were evaluated, by k-NN after an evaluation by k-NN.
fn against_baseline(pairs: &[PathBuf], kept: &Kept, rows: &[ResultRow]) -> Suggestion {
    let is_knn = !rows.is_empty() && rows.iter().all(|row| row.protocol == "knn");
    let (by, accuracy): (&[&str], _) =
        if is_knn { (&["--by", "knn"], "k-NN accuracy") } else { (&[], "logistic accuracy") };
    let compare = compare(pairs, kept.data()).with(by).with(&kept.others).with(&kept.of_classifier);
    let over = if pairs.len() > 2 { format!(", {}", seeds::tested(pairs)) } else { String::new() };
    compare.about(&format!("whether {accuracy} gains by the module, on paired images{over}"))
}
