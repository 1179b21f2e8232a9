//! The command that follows an evaluation.

use std::path::{Path, PathBuf};

use equimod_core::ObjectiveConfig;
use equimod_eval::ResultRow;
use equimod_eval::evaluation::TOP_1;
use equimod_eval::results::{OTHER_EPOCHS, is_quick_search, searched_whole_range};
use equimod_eval::suite::SuiteTask;
use equimod_eval::verdict::{
    Advice, TrainingFacts, VERY_SHORT, depends_on_draw, is_disappointing, is_saturated, of_baseline,
};
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{RunInfo, Status, recorded};

use crate::cli::{BUNDLED, Transfer};
use crate::inputs::evaluated_data::found;
use crate::outputs::suggestion::Suggestion;
use crate::reference::{PREFIX, plain_name};
use crate::run::again::{
    self, against_start, alone_longer_by_files, alone_with_seed, compare, few_shot, find_rate_by_files,
    longer_by_files, lower_by_files, other_rates, resume, still_longer_by_files, with_seed,
};
use crate::run::baseline::{self, weighted_modules};
use crate::run::facts::of_run;
use crate::run::files::all_results;
use crate::run::{lengths, seeds};

/// Pairs of runs, one of each seed, that are enough to say whether their difference lasts.
const ENOUGH_PAIRS: usize = 3;

/// The commands that follow a comparison of pairs of runs: the same comparison over all seeds that were trained, training
/// with another seed, or, of enough pairs, the page with their curves and settings. `kept` are arguments of the comparison,
/// and `by` its classifier.
pub fn after_comparison(models: &[PathBuf], kept: &Kept, by: &[&str], rows: &[ResultRow]) -> Vec<Suggestion> {
    if models.chunks_exact(2).any(|pair| pair[0] == pair[1]) {
        return Vec::new();
    }
    let infos: Option<Vec<RunInfo>> = models.iter().map(|model| RunInfo::read(model).ok()).collect();
    let Some(infos) = infos else { return Vec::new() };
    let mut open: Vec<Suggestion> = models.iter().filter_map(|model| resume(model)).collect();
    // Of a run and its baseline, it is the same.
    open.dedup();
    if !open.is_empty() {
        return open;
    }
    let [first, second] = [&models[0], &models[1]].map(PathBuf::as_path);
    // A run whose loss rose is nothing to repeat.
    let other_rates = other_rates([first, second]);
    if !other_rates.is_empty() {
        return other_rates;
    }
    if is_saturated(rows) {
        // The baseline is evaluated beside its run, and after few-shot classification, only other images can tell more.
        let has_few_shot = |rows: Vec<ResultRow>| rows.iter().any(ResultRow::is_few_shot);
        let is_open = |run: &&Path| baseline::run_of(run).is_none() && !all_results(run).is_ok_and(has_few_shot);
        let open = [first, second].into_iter().filter(is_open);
        return open.map(|run| few_shot(run).with(kept.data()).with(&kept.others)).collect();
    }
    if models.len() == 2 && lengths::is_longer([first, second]) {
        return after_longer(second, rows);
    }
    // A run trains its baseline along.
    let has_baseline = |run: &Path| baseline::of(run).is_some_and(|baseline| models[..2].contains(&baseline));
    let run = [first, second].into_iter().find(|run| has_baseline(run));
    // Of one recipe, any two runs are alike: they make no pair.
    if run.is_none() && seeds::differ_in_seed_alone([first, second]) {
        return again::of_one_recipe(first).map(|next| next.with(by)).into_iter().collect();
    }
    let pairs = seeds::with_others([first, second]);
    if pairs.len() > models.len() {
        let given: Vec<String> = models.iter().map(|model| model.display().to_string()).collect();
        let compare = Suggestion::again_without(&given).with(pairs.iter().map(|run| run.display().to_string()));
        return vec![compare.about(&format!("tested over {} seeds", pairs.len() / 2))];
    }
    if models.len() / 2 >= ENOUGH_PAIRS {
        let report = Suggestion::new(["report"]).with(models.iter().map(|model| model.display().to_string()));
        let longer = [first, second].into_iter().filter_map(still_longer_if_short);
        let report = report.about("curves, settings and results of all");
        return std::iter::once(report).chain(other_draw(kept, rows)).chain(longer).collect();
    }
    let trained = [first, second].into_iter().zip(&infos);
    if let Some(run) = run {
        let trained = trained.filter(|(one, _)| *one == run);
        let again = trained.map(|(run, info)| with_seed(run, info, seeds::next_seed([run])));
        let is_short = [first, second].into_iter().any(is_short);
        let longer = if is_short { still_longer_by_files(run) } else { None };
        // What is not clear yet may become so.
        let is_clear = rows.iter().any(ResultRow::is_clear_difference);
        let (before, after) = if is_clear { (None, longer) } else { (longer, None) };
        return before.into_iter().chain(again).chain(other_draw(kept, rows)).chain(after).collect();
    }
    // Both runs of a pair have the same seed.
    let missing = trained.zip(seeds::missing([first, second]));
    let again = missing.filter_map(|((run, info), seed)| Some(alone_with_seed(run, info, seed?)));
    let short = [first, second].into_iter().filter(|run| is_short(run));
    again.chain(short.filter_map(alone_longer_by_files)).collect()
}

/// What follows the comparison of a run with a shorter one: still longer training if this one gained, and else first the
/// comparison with its baseline.
fn after_longer(run: &Path, rows: &[ResultRow]) -> Vec<Suggestion> {
    let gained = |row: &ResultRow| row.is_clear_difference() && row.value > 0.0;
    let longer = still_longer_if_short(run);
    if longer.is_some() && rows.iter().any(gained) {
        return longer.into_iter().collect();
    }
    let pairs = seeds::pairs(run);
    let pair = (!pairs.is_empty()).then(|| again::compare(&pairs).about("the longer run against its baseline"));
    pair.into_iter().chain(longer).collect()
}

/// The command that follows a transfer evaluation: one with more to compare with, or the comparison of the two models with
/// the highest `means` on the images of the first `task`.
pub fn after_transfer(arguments: &Transfer, means: &[f64], task: &SuiteTask) -> Vec<Suggestion> {
    let Transfer { models, untrained, .. } = arguments;
    let baselines =
        models.iter().filter_map(|model| baseline::finished(model)).filter(|baseline| !models.contains(baseline));
    let baselines: Vec<String> = baselines.map(|baseline| baseline.display().to_string()).collect();
    let next = match (&models[..], baselines.len()) {
        ([_], _) if !untrained => Some(Suggestion::again().with(["--untrained"])),
        (_, 1..) => Some(Suggestion::again().with(baselines).about("also the same without the module's loss")),
        ([_, _, ..], 0) => {
            let mut order: Vec<(&f64, &PathBuf)> = means.iter().zip(models).collect();
            order.sort_by(|a, b| b.0.total_cmp(a.0));
            let pairs = seeds::with_others([1, 0].map(|place| order[place].1.as_path()));
            let images = ["--data", &task.data].into_iter().chain(task.test.iter().flat_map(|test| ["--test", test]));
            let over = if pairs.len() > 2 { format!(" and {} seeds", pairs.len() / 2) } else { String::new() };
            let about = format!("tested on paired images of the first task{over}");
            Some(compare(&pairs).with(images).about(&about))
        }
        _ => None,
    };
    next.into_iter().collect()
}

/// Arguments of an evaluation with which others see the same images in the same way.
#[derive(Default)]
pub struct Kept {
    /// The images, if they were named.
    pub data: Option<String>,
    /// The other arguments.
    pub others: Vec<String>,
    /// The arguments of the classifier.
    pub of_classifier: Vec<String>,
    /// Whether the command of this process is the evaluation, which can be repeated with more.
    pub is_of_this: bool,
}

impl Kept {
    /// The option that names the images, if they were named.
    fn data(&self) -> impl Iterator<Item = &str> {
        self.data.iter().flat_map(|data| ["--data", data.as_str()])
    }
}

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

/// The same evaluation with another draw of held-out images, where these show a clear difference.
fn other_draw(kept: &Kept, rows: &[ResultRow]) -> Option<Suggestion> {
    let is_first = kept.is_of_this && !kept.others.iter().any(|option| option == "--seed");
    if !is_first || !depends_on_draw(rows) {
        return None;
    }
    // References that this evaluation had from an earlier one are measured anew.
    let has = |of: fn(&ResultRow) -> bool| rows.iter().any(of);
    let references = [
        ("--untrained", has(|row| row.over_untrained.is_some())),
        ("--baseline", has(|row| row.over_baseline.is_some())),
    ];
    let again = Suggestion::again_with(&[("--seed", "1".to_owned())]);
    let measured = references.into_iter().filter(|(_, is_there)| *is_there);
    let again = measured.fold(again, |again, (option, _)| again.with_option(option));
    Some(again.about("whether other held-out images say the same"))
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

/// Longer training of a run that was too short, also if it was compared with a shorter one.
fn still_longer_if_short(run: &Path) -> Option<Suggestion> {
    if is_short(run) { still_longer_by_files(run) } else { None }
}

/// Whether a model is a run that was too short, and not one whose loss did not fall.
fn is_short(model: &Path) -> bool {
    is_sound(model, TrainingFacts::is_too_short)
}

/// Whether a model is a run of which longer training may mend disappointing results.
fn is_unsettled(model: &Path) -> bool {
    is_sound(model, TrainingFacts::is_unsettled)
}

fn is_sound(model: &Path, is_wanted: fn(&TrainingFacts) -> bool) -> bool {
    let is_it = |facts: TrainingFacts| is_wanted(&facts) && !facts.has_failed() && facts.flat.is_none();
    is_run(model) && of_run(model).is_some_and(is_it)
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
            let logistic = logistic.with(baseline).with(kept.data()).with(&kept.others);
            return Some(logistic.about("whether a classifier that is fitted to the optimum says the same"));
        }
        Some(Advice::EvaluateFewShot) => {
            return Some(few_shot(model).with(kept.data()).with(&kept.others));
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
    let compare = compare(pairs).with(by).with(kept.data()).with(&kept.others).with(&kept.of_classifier);
    let over = if pairs.len() > 2 { format!(", tested over {} seeds", pairs.len() / 2) } else { String::new() };
    compare.about(&format!("whether {accuracy} gains by the module, on paired images{over}"))
}
