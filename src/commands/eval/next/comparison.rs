//! The commands that follow a comparison.

use std::path::{Path, PathBuf};

use equimod_eval::ResultRow;
use equimod_eval::verdict::is_saturated;
use equimod_train::RunInfo;

use super::{Kept, other_draw};
use crate::outputs::suggestion::Suggestion;
use crate::run::again::{
    self, alone_longer_by_files, alone_with_seed, few_shot, other_rates, resume, still_longer_by_files,
    still_longer_if_short, with_seed,
};
use crate::run::baseline;
use crate::run::facts::is_short;
use crate::run::files::all_results;
use crate::run::{lengths, seeds};

/// Pairs of runs, one of each seed, that are enough to say whether their difference lasts.
const ENOUGH_PAIRS: usize = 3;

/// The commands that follow a comparison of pairs of runs: the same comparison over all seeds that were trained, training
/// with another seed, or, of enough pairs, the page with their curves and settings. `kept` are arguments of the comparison,
/// and `by` its classifier.
pub fn after_comparison(models: &[PathBuf], kept: &Kept, by: &[&str], rows: &[ResultRow]) -> Vec<Suggestion> {
    let is_one_run = models.chunks_exact(2).any(|pair| pair[0] == pair[1]);
    if is_one_run || models.iter().any(|model| RunInfo::read(model).is_err()) {
        return Vec::new();
    }
    let first = before_all(models);
    if !first.is_empty() {
        return first;
    }
    let pair = [&models[0], &models[1]].map(PathBuf::as_path);
    if is_saturated(rows) {
        return with_few_labels(pair, kept);
    }
    if models.len() == 2 && lengths::is_longer(pair) {
        return after_longer(pair[1], kept, rows);
    }
    // A run trains its baseline along.
    let has_baseline = |run: &&Path| baseline::of(run).is_some_and(|baseline| models[..2].contains(&baseline));
    let run = pair.into_iter().find(has_baseline);
    // Of one recipe, any two runs are alike: they make no pair.
    if run.is_none() && seeds::differ_in_seed_alone(pair) {
        return again::of_one_recipe(pair[0], kept.data(), by).into_iter().collect();
    }
    let pairs = seeds::with_others(pair);
    if pairs.len() > models.len() {
        let given: Vec<String> = models.iter().map(|model| model.display().to_string()).collect();
        let compare = Suggestion::again_without(&given).with(pairs.iter().map(|run| run.display().to_string()));
        return vec![compare.about(&seeds::tested(&pairs))];
    }
    match run {
        _ if models.len() / 2 >= ENOUGH_PAIRS => after_enough(models, other_draw(kept, rows)),
        Some(run) => after_baseline(run, pair.into_iter().any(is_short), kept, rows),
        None => with_missing_seeds(pair),
    }
}

/// The commands that come before all others: of runs that are not finished, and of those whose loss rose, which are nothing
/// to repeat.
fn before_all(models: &[PathBuf]) -> Vec<Suggestion> {
    let mut open: Vec<Suggestion> = models.iter().filter_map(|model| resume(model)).collect();
    // Of a run and its baseline, it is the same.
    open.dedup();
    if open.is_empty() { other_rates(models[..2].iter().map(PathBuf::as_path)) } else { open }
}

/// Few-shot classification by runs whose comparison has no image wrong, each with its baseline; after it, only other images
/// can tell more.
fn with_few_labels(pair: [&Path; 2], kept: &Kept) -> Vec<Suggestion> {
    let has_few_shot = |rows: Vec<ResultRow>| rows.iter().any(ResultRow::is_few_shot);
    let is_open = |run: &&Path| baseline::run_of(run).is_none() && !all_results(run).is_ok_and(has_few_shot);
    let open = pair.into_iter().filter(is_open);
    open.map(|run| few_shot(run, kept.data()).with(&kept.others)).collect()
}

/// What follows the comparison of enough pairs: the page with their curves, and longer training of those that are short.
fn after_enough(models: &[PathBuf], other_draw: Option<Suggestion>) -> Vec<Suggestion> {
    let report = Suggestion::new(["report"]).with(models.iter().map(|model| model.display().to_string()));
    let longer = models[..2].iter().filter_map(|run| still_longer_if_short(run));
    std::iter::once(report.about("curves, settings and results of all")).chain(other_draw).chain(longer).collect()
}

/// What follows the comparison of a run with its baseline: training with another seed and, if one of them is short, longer
/// training.
fn after_baseline(run: &Path, is_short: bool, kept: &Kept, rows: &[ResultRow]) -> Vec<Suggestion> {
    let again = RunInfo::read(run).ok().map(|info| with_seed(run, &info, seeds::next_seed([run])));
    let longer = if is_short { still_longer_by_files(run) } else { None };
    // What is not clear yet may become so.
    let is_clear = rows.iter().any(ResultRow::is_clear_difference);
    let (before, after) = if is_clear { (None, longer) } else { (longer, None) };
    before.into_iter().chain(again).chain(other_draw(kept, rows)).chain(after).collect()
}

/// What follows the comparison of two recipes: training with seeds that only one of them had, or with another one, and
/// longer training of those that are short. Both runs of a pair have the same seed.
fn with_missing_seeds(pair: [&Path; 2]) -> Vec<Suggestion> {
    let missing = pair.into_iter().zip(seeds::missing(pair));
    let again = missing.filter_map(|(run, seed)| Some(alone_with_seed(run, &RunInfo::read(run).ok()?, seed?)));
    let short = pair.into_iter().filter(|run| is_short(run));
    again.chain(short.filter_map(alone_longer_by_files)).collect()
}

/// What follows the comparison of a run with a shorter one: still longer training if this one gained, and else first the
/// comparison with its baseline.
fn after_longer(run: &Path, kept: &Kept, rows: &[ResultRow]) -> Vec<Suggestion> {
    let gained = |row: &ResultRow| row.is_clear_difference() && row.value > 0.0;
    let longer = still_longer_if_short(run);
    if longer.is_some() && rows.iter().any(gained) {
        return longer.into_iter().collect();
    }
    let pairs = seeds::pairs(run);
    let compare = || again::compare(&pairs, kept.data()).about("the longer run against its baseline");
    let pair = (!pairs.is_empty()).then(compare);
    pair.into_iter().chain(longer).collect()
}
