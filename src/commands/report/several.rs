//! The verdict of a report on several runs, and the command that follows.

use equimod_data::Background;
use equimod_eval::ResultRow;
use equimod_eval::evaluation::{ABSOLUTE, TOP_1};
use equimod_eval::results::Paired;
use equimod_eval::verdict::{MOST_SENTENCES, is_judged, of_baseline, of_trainings};
use equimod_train::Status;

use super::rows::are_alike;
use super::{Run, is_baseline, is_baseline_of};
use crate::outputs::suggestion::Suggestion;
use crate::reference::plain_name;
use crate::run::again::{alone_longer_by_files, compare, of_one_recipe, other_rates, resume, still_longer_if_short};
use crate::run::baseline::weighted_modules;
use crate::run::facts::{is_short, of_run};
use crate::run::labels::labeled_images;
use crate::run::lengths::is_longer;
use crate::run::seeds::{self, have_one_recipe};
use crate::run_state::status;

/// The verdict on two runs or more, and the command that follows.
pub fn of_several(runs: &[Run]) -> (Vec<String>, Vec<Suggestion>) {
    let (evaluated, others): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| !run.results.is_empty());
    let said: Vec<String> = others.iter().map(|run| not_evaluated(run)).collect();
    let evaluate: Vec<Suggestion> = others.iter().map(|run| evaluation_of(run)).collect();
    if evaluated.len() < 2 {
        return (said.into_iter().take(MOST_SENTENCES).collect(), evaluate);
    }
    let (compared, next) = of_evaluated(&evaluated);
    // Runs that are not finished or failed come first.
    let mut open: Vec<Suggestion> = runs.iter().filter_map(|run| resume(&run.folder)).collect();
    open.dedup();
    // A run whose loss rose is nothing to compare.
    open.extend(other_rates(runs.iter().map(|run| run.folder.as_path())));
    let next = if open.is_empty() { evaluate.into_iter().chain(next).collect() } else { open };
    (said.into_iter().chain(compared).take(MOST_SENTENCES).collect(), next)
}

/// The verdict on two evaluated runs or more, and the command that follows.
fn of_evaluated(runs: &[&Run]) -> (Vec<String>, Option<Suggestion>) {
    match runs {
        [first, second] => {
            // Of one recipe, any two runs are alike.
            let differ = !have_one_training(first, second);
            let next = match differ {
                false => of_one_recipe(&first.folder, None, &[]),
                true if runs.iter().all(|run| is_unlabeled(run)) => still_longer(first, second),
                true => Some(paired(first, second, &shared(runs))),
            };
            // Nothing trained a predictor whose loss has no weight, as in a baseline.
            let are_trained = runs.iter().all(|run| !weighted_modules(&run.recipe).is_empty());
            let equivariance = of_equivariance(first, second).filter(|_| are_trained);
            let accuracies = match shared(runs).as_slice() {
                [] if equivariance.is_some() => "The runs share no accuracy or recall.".into(),
                [] if runs.iter().all(|run| is_unlabeled(run)) => "The runs have no accuracy or recall.".into(),
                shared => of_two(first, second, shared),
            };
            let backgrounds = backgrounds(first, second).filter(|_| !shared(runs).is_empty());
            (with_training([accuracies].into_iter().chain(equivariance).chain(backgrounds), runs), next)
        }
        several => match other_images(several) {
            Some((said, next)) => (with_training([said], several), next),
            None => {
                let said = std::iter::once(leaders(several)).chain(against_baselines(several));
                (with_training(said, several), highest_two(several))
            }
        },
    }
}

/// A sentence on a run that was not evaluated.
fn not_evaluated(run: &Run) -> String {
    let why = match run.info.status {
        Status::Finished => String::new(),
        _ => format!(" ({})", status(&run.folder, &run.info)),
    };
    format!("{} was not evaluated{why}: it is not compared.", run.name)
}

/// The command that goes on with a run that was not evaluated, or evaluates it.
fn evaluation_of(run: &Run) -> Suggestion {
    let evaluate = || Suggestion::new(["eval", "logistic", &run.folder.display().to_string()]);
    resume(&run.folder).unwrap_or_else(|| evaluate().about("of images with labels; other protocols as well"))
}

/// A verdict on several runs, and whether they were trained too briefly.
fn with_training(said: impl IntoIterator<Item = String>, runs: &[&Run]) -> Vec<String> {
    // That the shorter of two runs is short is what the report is about.
    let is_shorter = |run: &Run| runs.len() == 2 && runs.iter().any(|other| is_longer([&run.folder, &other.folder]));
    let runs = runs.iter().filter(|run| !is_shorter(run));
    let facts = runs.filter_map(|run| Some((run.name.clone(), of_run(&run.folder)?)));
    said.into_iter().chain(of_trainings(&facts.collect::<Vec<_>>())).collect()
}

/// Whether two runs differ at most in their seeds: with one recipe, from the same initial weights.
fn have_one_training(first: &Run, second: &Run) -> bool {
    have_one_recipe(&first.recipe, &second.recipe) && first.info.from == second.info.from
}

/// Whether two runs trained on the same images.
fn same_images(first: &Run, second: &Run) -> bool {
    first.info.data_fingerprint == second.info.data_fingerprint
}

/// A sentence on two runs whose images have the same name and differ.
fn same_name_only(first: &Run, second: &Run) -> Option<String> {
    let name = &first.recipe.data.source;
    let is_name_only = !same_images(first, second) && *name == second.recipe.data.source;
    is_name_only.then(|| {
        let (first, second) = (&first.name, &second.name);
        format!("{first} and {second} call their images {name}, but these differ: numbers on them cannot be compared.")
    })
}

/// The command that tests the difference of two runs: on their images, or on others if they have different ones.
fn paired(first: &Run, second: &Run, shared: &[Vec<&ResultRow>]) -> Suggestion {
    let same = same_images(first, second) && first.recipe.data.source == second.recipe.data.source;
    // Those of the shared accuracies; only labels can be compared.
    let has_shared = |run: &&&Run| {
        let is_own = |rows: &Vec<&ResultRow>| plain_name(&rows[0].data) == plain_name(&run.recipe.data.source);
        shared.first().is_some_and(is_own)
    };
    let of_shared = [first, second].iter().find(has_shared).copied();
    let pair = [first, second].map(|run| run.folder.clone());
    if same {
        return compare(&pair, None).about("tested on paired images");
    }
    let elsewhere = match of_shared {
        Some(_) => None,
        None => shared.first().map_or_else(|| labeled_images(&pair, None), |rows| Some(rows[0].data.clone())),
    };
    if let Some(images) = elsewhere {
        return compare(&pair, Some(&images)).about(&format!("both on {images}; --data takes others"));
    }
    let labeled = of_shared.unwrap_or(if is_unlabeled(first) { second } else { first });
    compare(&pair, Some(&labeled.recipe.data.source))
        .about(&format!("both on the images of {}; --data takes others", labeled.name))
}

/// Longer training, of two runs without labels: of the longer one, of a run with its baseline, or of one that is short.
fn still_longer(first: &Run, second: &Run) -> Option<Suggestion> {
    for (one, other) in [(first, second), (second, first)] {
        if is_longer([&one.folder, &other.folder]) || is_baseline_of(one, other) {
            return still_longer_if_short(&other.folder);
        }
    }
    [first, second].into_iter().filter(|run| is_short(&run.folder)).find_map(|run| alone_longer_by_files(&run.folder))
}

/// How the images of two runs with different backgrounds were read.
fn backgrounds(first: &Run, second: &Run) -> Option<String> {
    let [one, other] = [first, second].map(|run| run.recipe.data.background);
    let of = |run: &Run| match run.recipe.data.background {
        Background(None) => format!("of {} without a background", run.name),
        color => format!("of {} on {color}", run.name),
    };
    (one != other).then(|| {
        format!("Transparent pixels are read as in each training: those {} and those {}.", of(first), of(second))
    })
}

/// Whether a run was evaluated on images without labels, on which nothing can be classified.
fn is_unlabeled(run: &Run) -> bool {
    let needs_labels = |row: &ResultRow| row.metric == TOP_1 || row.is_few_shot() || row.metric.starts_with("recall@");
    !run.results.is_empty() && !run.results.iter().any(needs_labels)
}

/// The comparison of the two runs with the highest means of all shared accuracies and recalls.
fn highest_two(runs: &[&Run]) -> Option<Suggestion> {
    let shared = shared(runs);
    let sum = |place: usize| shared.iter().map(|rows| rows[place].value).sum::<f64>();
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|&a, &b| sum(b).total_cmp(&sum(a)));
    let [best, second, ..] = order[..] else { return None };
    // Of runs that differ in their seeds alone, the highest are so by chance.
    let differ = !have_one_training(runs[second], runs[best]);
    // Runs with their baselines are compared in pairs.
    if let Some(run) = with_baseline(runs).next() {
        let pairs = seeds::pairs(&run.folder);
        let about = match pairs.len() / 2 {
            0 => return resume(&run.folder),
            1 => format!("{} and its baseline, with the same test images and seed", run.name),
            _ => format!("{} and its baseline, {}", run.name, seeds::tested(&pairs)),
        };
        return Some(compare(&pairs, None).about(&about));
    }
    (differ && !shared.is_empty())
        .then(|| paired(runs[second], runs[best], &shared).about("the two with the highest mean, on paired images"))
}

/// The accuracies and recalls that all of several runs have: of each, the rows of the runs in their order.
fn shared<'a>(runs: &[&'a Run]) -> Vec<Vec<&'a ResultRow>> {
    let Some((last, others)) = runs.split_last() else { return Vec::new() };
    let all = |row: &'a ResultRow| -> Option<Vec<&'a ResultRow>> {
        let same = |run: &&'a Run| run.results.iter().find(|other| are_alike(other, row));
        others.iter().map(same).chain([Some(row)]).collect()
    };
    // Nothing trained the predictor of a baseline.
    let has_baseline = runs.iter().any(|run| is_baseline(run, runs.iter().copied()));
    let is_of_features = |row: &&ResultRow| !(has_baseline && row.is_of_predictor());
    let judged = last.results.iter().filter(|row| is_judged(row, &last.results)).filter(is_of_features);
    judged.filter_map(all).collect()
}

/// The runs of several that have images of their own: a sentence, and the report without them.
fn other_images(runs: &[&Run]) -> Option<(String, Option<Suggestion>)> {
    if let Some(different) = runs.iter().find_map(|run| same_name_only(runs[0], run)) {
        return Some((different, None));
    }
    let alike = |run: &&Run| runs.iter().copied().filter(|other| same_images(run, other)).collect::<Vec<_>>();
    // Of equal numbers of runs, those of the first.
    let most = runs.iter().rev().map(alike).max_by_key(Vec::len)?;
    if most.len() == runs.len() || !shared(runs).is_empty() {
        return None;
    }
    let names = |runs: &[&Run]| runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let others: Vec<&Run> = runs.iter().copied().filter(|run| !same_images(run, most[0])).collect();
    let (were, images) = (if others.len() == 1 { "was" } else { "were" }, &most[0].recipe.data.source);
    let said = format!(
        "The runs share no accuracy or recall: {} {were} trained and evaluated on other images than {} ({images}).",
        names(&others),
        names(&most)
    );
    let report = Suggestion::new(["report"]).with(most.iter().map(|run| run.folder.display().to_string()));
    Some((said, (most.len() > 1).then(|| report.about(&format!("the runs on {images}")))))
}

/// In how many of the accuracies and recalls that all of several runs share each of them is highest.
fn leaders(runs: &[&Run]) -> String {
    let shared = shared(runs);
    if shared.is_empty() {
        return NOTHING_SHARED.into();
    }
    let count = |place: usize| {
        let is_best = |rows: &&Vec<&ResultRow>| rows.iter().all(|row| row.value <= rows[place].value);
        shared.iter().filter(is_best).count()
    };
    let best = (0..runs.len()).map(|place| (&runs[place].name, count(place))).filter(|(_, count)| *count > 0);
    let counts: Vec<String> = best.map(|(name, count)| format!("{name} in {count}")).collect();
    let clear = shared.iter().filter(|rows| has_clear_best(rows)).count();
    let one_recipe = runs.iter().all(|run| have_one_training(runs[0], run));
    format!(
        "Of {}, the highest is that of {} (ties count for each). {}",
        counted(shared.len()),
        counts.join(", "),
        match clear {
            _ if one_recipe => "The runs differ in their seeds alone, so which one is highest is chance.".to_owned(),
            0 => "In none of them does its interval lie above those of all others: the order may be chance.".into(),
            clear => format!("Its interval lies above those of all others in {clear} of them."),
        }
    )
}

/// Whether the interval of one run over test images lies above those of all others.
fn has_clear_best(rows: &[&ResultRow]) -> bool {
    // Few-shot episodes share the test images.
    if rows.iter().any(|row| row.is_few_shot()) {
        return false;
    }
    let above = |best: &ResultRow, other: &ResultRow| {
        std::ptr::eq(best, other) || best.interval.zip(other.interval).is_some_and(|(best, other)| best.0 > other.1)
    };
    rows.iter().any(|best| rows.iter().all(|other| above(best, other)))
}

/// The runs of several whose baselines are among them.
fn with_baseline<'a>(runs: &[&'a Run]) -> impl Iterator<Item = &'a Run> {
    runs.iter().copied().filter(|run| runs.iter().any(|other| is_baseline_of(other, run)))
}

/// How runs differ from their baselines among several, on the same test images, where their evaluations have it.
fn against_baselines(runs: &[&Run]) -> Option<String> {
    let each = with_baseline(runs).filter_map(|run| Some(format!("in {}, {}", run.name, of_baseline(&run.results)?)));
    let each: Vec<String> = each.collect();
    (!each.is_empty())
        .then(|| format!("Against the baselines, each with one seed, on the same test images: {}.", each.join("; ")))
}

fn counted(shared: usize) -> String {
    if shared == 1 { "one shared accuracy or recall".into() } else { format!("{shared} shared accuracies and recalls") }
}

/// The verdict on runs without a common measure.
const NOTHING_SHARED: &str = "The runs share no accuracy or recall: evaluate all with the same protocol and images.";

/// Whether the absolute equivariance of two runs on the same images differs.
fn of_equivariance(first: &Run, second: &Run) -> Option<String> {
    let of =
        |run: &Run| run.results.iter().find(|row| row.metric == ABSOLUTE && !row.task.ends_with(" alone")).cloned();
    let a = of(first).filter(|_| same_images(first, second))?;
    let b = of(second).filter(|other| other.task == a.task)?;
    let (one, two) = a.interval.zip(b.interval)?;
    let apart = if one.0 > two.1 || one.1 < two.0 { "lie apart" } else { "overlap" };
    Some(format!(
        "Absolute equivariance of {} is {} in {} and {} in {}; the intervals {apart}.",
        a.task,
        a.text(a.value),
        first.name,
        b.text(b.value),
        second.name
    ))
}

/// Whether accuracies and recalls of two runs differ.
fn of_two(first: &Run, second: &Run, shared: &[Vec<&ResultRow>]) -> String {
    if let Some(different) = same_name_only(first, second) {
        return different;
    }
    let points = |rows: &[&ResultRow]| 100.0 * (rows[1].value - rows[0].value);
    let largest = shared.iter().max_by(|a, b| points(a).abs().total_cmp(&points(b).abs()));
    let Some(largest) = largest else { return NOTHING_SHARED.into() };
    // Of a run and its baseline, the evaluation of the run has the paired difference.
    let run = [(1, is_baseline_of(first, second)), (0, is_baseline_of(second, first))];
    let run = run.into_iter().find_map(|(place, is_it)| is_it.then_some(place));
    let known: Vec<&Paired> = shared.iter().filter_map(|rows| rows[run?].over_baseline.as_ref()).collect();
    let apart = match shared.iter().filter(|rows| has_clear_best(rows)).count() {
        _ if !known.is_empty() => {
            let clear = known.iter().filter(|paired| paired.is_clear()).count();
            let of = if known.len() < shared.len() { "of those that were, " } else { "" };
            format!("Paired on the same test images, {of}{clear} of {} differences are clear.", known.len())
        }
        _ if have_one_training(first, second) => {
            "The runs differ in their seeds alone, so the differences show how much a seed matters.".to_owned()
        }
        0 => "In none of them do the intervals of the two runs lie apart; paired on the same images, differences are seen \
              earlier."
            .into(),
        count => format!("The intervals of the two runs lie apart in {count} of them."),
    };
    if points(largest) == 0.0 {
        return format!("Of {}, all are equal. {apart}", counted(shared.len()));
    }
    let count = |is_side: fn(f64) -> bool| shared.iter().filter(|rows| is_side(points(rows))).count();
    format!(
        "Of {}, {} is higher in {} and lower in {}; the largest difference is {:+.1} points, in {} of {} ({}). {apart}",
        counted(shared.len()),
        second.name,
        count(|points| points > 0.0),
        count(|points| points < 0.0),
        points(largest),
        largest[1].metric,
        largest[1].task,
        largest[1].protocol_name(),
    )
}
