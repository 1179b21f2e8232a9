//! The verdict of a report on runs, and the command that follows.

use equimod_eval::ResultRow;
use equimod_eval::evaluation::{ABSOLUTE, TOP_1};
use equimod_eval::verdict::{MOST_SENTENCES, Verdict, is_judged, verdict};
use equimod_train::Status;

use super::{Run, is_baseline};
use crate::commands::eval::after_evaluation;
use crate::outputs::suggestion::Suggestion;
use crate::run::again::lower_by_files;
use crate::run::facts::training_facts;
use crate::run::seeds::have_one_recipe;
use crate::run_state::{is_killed, status};

/// The verdict on one run or several, and the command that follows.
pub fn of(runs: &[Run]) -> (Vec<String>, Option<Suggestion>) {
    match runs {
        [one] => of_one(one),
        [first, second] => {
            let next = (!runs.iter().any(is_unlabeled)).then(|| paired(first, second));
            (vec![of_two(first, second)], next)
        }
        several => (vec![leaders(several)], highest_two(several)),
    }
}

/// The verdict on all evaluations of a run, and the command that follows.
fn of_one(run: &Run) -> (Vec<String>, Option<Suggestion>) {
    let (folder, steps) = (&run.folder, run.metrics.steps());
    let (said, next) = match run.info.status {
        Status::Finished => {
            let facts = training_facts(folder, &run.recipe, steps).ok();
            let Verdict { sentences, advice } = verdict(&run.results, facts.as_ref());
            return (sentences, after_evaluation(advice, folder, None, &run.results));
        }
        Status::Diverged => {
            let text = "Training diverged: the learning rate is too high, or training is unstable.";
            (text.to_owned(), lower_by_files(folder))
        }
        Status::Running if !is_killed(folder, &run.info) => {
            (format!("The run goes on: so far, it has {steps} steps."), None)
        }
        _ => {
            let resume = Suggestion::new(["pretrain", "--resume", "--out", &folder.display().to_string()]);
            let resume = resume.with(run.info.command.iter().filter(|argument| *argument == "--baseline"));
            let status = status(folder, &run.info);
            (format!("The run was not finished ({status}): it has {steps} steps."), Some(resume))
        }
    };
    // What the metrics so far say about training is no judgement of the whole run.
    let sentences = verdict(&run.results, None).sentences;
    (std::iter::once(said).chain(sentences).take(MOST_SENTENCES).collect(), next)
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
fn paired(first: &Run, second: &Run) -> Suggestion {
    let same = same_images(first, second) && first.recipe.data.source == second.recipe.data.source;
    let [a, b] = [first, second].map(|run| run.folder.display().to_string());
    let compare = Suggestion::new(["eval", "compare", &a, &b]);
    match same {
        true => compare.about("tested on paired images"),
        false => compare
            .with(["--data", &first.recipe.data.source])
            .about(&format!("both on the images of {}; --data takes others", first.name)),
    }
}

/// Whether a run was evaluated on images without labels, on which nothing can be classified.
fn is_unlabeled(run: &Run) -> bool {
    let needs_labels = |row: &ResultRow| row.metric == TOP_1 || row.metric.starts_with("recall@");
    !run.results.is_empty() && !run.results.iter().any(needs_labels)
}

/// The comparison of the two runs with the highest means of all shared accuracies and recalls.
fn highest_two(runs: &[Run]) -> Option<Suggestion> {
    let shared = shared(runs);
    let sum = |place: usize| shared.iter().map(|values| values[place]).sum::<f64>();
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|&a, &b| sum(b).total_cmp(&sum(a)));
    let [best, second, ..] = order[..] else { return None };
    // Of runs that differ in their seeds alone, the highest are so by chance.
    let differ = !have_one_recipe(&runs[second].recipe, &runs[best].recipe);
    // Runs with their baselines are compared in pairs.
    let differ = differ && !runs.iter().any(|run| is_baseline(run, runs));
    let is_comparable = differ && !shared.is_empty() && runs.iter().all(|run| same_name_only(&runs[0], run).is_none());
    is_comparable.then(|| paired(&runs[second], &runs[best]).about("the two with the highest mean, on paired images"))
}

/// The accuracies and recalls that all of several runs have: of each, the values of the runs.
fn shared(runs: &[Run]) -> Vec<Vec<f64>> {
    let of =
        |run: &Run, row: &ResultRow| run.results.iter().find(|other| other.key() == row.key()).map(|row| row.value);
    let all = |row: &ResultRow| runs.iter().map(|run| of(run, row)).collect::<Option<Vec<f64>>>();
    let judged = runs.iter().take(1).flat_map(|run| run.results.iter().filter(|row| is_judged(row, &run.results)));
    judged.filter_map(all).collect()
}

/// In how many of the accuracies and recalls that all of several runs share each of them is highest.
fn leaders(runs: &[Run]) -> String {
    if let Some(different) = runs.iter().find_map(|run| same_name_only(&runs[0], run)) {
        return different;
    }
    let shared = shared(runs);
    if shared.is_empty() {
        return NOTHING_SHARED.into();
    }
    let leads = |place: usize| {
        let best = |values: &&Vec<f64>| values.iter().all(|value| *value <= values[place]);
        format!("{} in {}", runs[place].name, shared.iter().filter(best).count())
    };
    let counts: Vec<String> = (0..runs.len()).map(leads).collect();
    let shared = shared.len();
    format!(
        "Of {shared} shared accuracies and recalls, the highest is that of {} (ties count for each).",
        counts.join(", ")
    )
}

/// The verdict on runs without a common measure.
const NOTHING_SHARED: &str = "The runs share no accuracy or recall: evaluate all with the same protocol and images.";

/// Whether the absolute equivariance of two runs without common accuracies differs.
fn of_equivariance(first: &Run, second: &Run) -> Option<String> {
    let of =
        |run: &Run| run.results.iter().find(|row| row.metric == ABSOLUTE && !row.task.ends_with(" alone")).cloned();
    let a = of(first)?;
    let b = of(second).filter(|other| other.task == a.task)?;
    let (one, two) = a.interval.zip(b.interval)?;
    let apart = if one.0 > two.1 || one.1 < two.0 { "lie apart" } else { "overlap" };
    Some(format!(
        "The runs share no accuracy or recall. Absolute equivariance of {} is {} in {} and {} in {}; the intervals {apart}.",
        a.task,
        a.text(a.value),
        first.name,
        b.text(b.value),
        second.name
    ))
}

/// Whether accuracies and recalls of two runs differ.
fn of_two(first: &Run, second: &Run) -> String {
    if let Some(different) = same_name_only(first, second) {
        return different;
    }
    let other = |row: &ResultRow| first.results.iter().find(|other| other.key() == row.key()).cloned();
    let shared: Vec<(&ResultRow, ResultRow)> = second
        .results
        .iter()
        .filter(|row| is_judged(row, &second.results))
        .filter_map(|row| Some((row, other(row)?)))
        .collect();
    let points = |(row, other): &(&ResultRow, ResultRow)| 100.0 * (row.value - other.value);
    let apart = |(row, other): &&(&ResultRow, ResultRow)| {
        row.interval.zip(other.interval).is_some_and(|(one, two)| one.0 > two.1 || one.1 < two.0)
    };
    let largest = shared.iter().max_by(|a, b| points(a).abs().total_cmp(&points(b).abs()));
    let Some(largest) = largest else { return of_equivariance(first, second).unwrap_or_else(|| NOTHING_SHARED.into()) };
    let apart = match shared.iter().filter(apart).count() {
        0 => "In none of them do the intervals of the two runs lie apart; paired on the same images, differences are seen \
              earlier."
            .to_owned(),
        count => format!("The intervals of the two runs lie apart in {count} of them."),
    };
    let count =
        |higher: bool| shared.iter().filter(|pair| (points(pair) > 0.0) == higher && points(pair) != 0.0).count();
    format!(
        "Of {} shared accuracies and recalls, {} is higher in {} and lower in {}; the largest difference is {:+.1} points, \
         in {} of {} ({}). {apart}",
        shared.len(),
        second.name,
        count(true),
        count(false),
        points(largest),
        largest.0.metric,
        largest.0.task,
        largest.0.protocol,
    )
}
