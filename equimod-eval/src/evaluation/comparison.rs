//! Rows and figures of a paired comparison of two models A and B, over one or more pairs of runs.

use super::{Classification, TOP_1};
use crate::compare::{PairedComparison, compare_paired};
use crate::report::{Bar, Bars, Figure, Section};
use crate::results::{NOT_CONFIRMED, SIGNIFICANT};
use crate::{Result, ResultRow};

/// The classifications of one model in a comparison.
pub struct ComparedModel<'a> {
    /// Name of the model in rows.
    pub name: &'a str,
    /// One classification for each task, in the same order for all models.
    pub classifications: &'a [Classification],
}

/// Compares pairs of models `[A1, B1, A2, B2, …]`, one pair a run, on each task: three rows a task (A, B and their
/// difference) and a bar chart. `data` names the data set; `seed` decides the bootstrap resamples.
///
/// # Errors
/// If the models were not tested on the same images.
pub fn compare(models: &[ComparedModel], data: &str, seed: u64) -> Result<(Vec<ResultRow>, Vec<Section>)> {
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for task in 0..models.first().map_or(0, |model| model.classifications.len()) {
        let hits = |model: &ComparedModel| model.classifications[task].predictions.hits(1);
        let runs: Vec<_> = models.chunks_exact(2).map(|pair| (hits(&pair[0]), hits(&pair[1]))).collect();
        let comparison = compare_paired(&runs, seed)?;
        let classification = &models[0].classifications[task];
        let interval = comparison.run_interval.unwrap_or(comparison.difference.interval);
        bars.push(Bar {
            label: classification.task.name.clone(),
            value: 100.0 * comparison.difference.value,
            interval: Some((100.0 * interval.0, 100.0 * interval.1)),
            references: Vec::new(),
        });
        rows.extend(task_rows(&comparison, classification, data, models));
    }
    let figure = Figure::Bars(Bars {
        title: format!("{} in top-1 accuracy, in points, with its 95 % interval", difference_of(&short_names(models))),
        name: "difference".into(),
        references: Vec::new(),
        bars,
        decimals: 1,
    });
    Ok((rows, vec![Section::new("Differences", vec![figure])]))
}

/// Names of A and B: those of a single pair, else what the names of each have in common.
fn short_names(models: &[ComparedModel]) -> [String; 2] {
    let names = |first: usize| models.iter().skip(first).step_by(2).map(|model| model.name).collect::<Vec<_>>();
    let all = [names(0), names(1)];
    let [a, b] = all.each_ref().map(|names| common_name(names));
    match a == b {
        false => [a, b],
        true => all.map(|names| first_of(&names)),
    }
}

/// The models behind the names of A and B in rows, of several pairs.
pub fn introduction(models: &[ComparedModel]) -> Option<String> {
    if models.len() < 3 {
        return None;
    }
    let of = |first: usize| models.iter().skip(first).step_by(2).map(|model| model.name).collect::<Vec<_>>().join(", ");
    let [a, b] = short_names(models);
    Some(format!("{a}: {}; {b}: {}", of(0), of(1)))
}

/// The last part of several paths if it is the same, or else their beginning.
fn common_name(names: &[&str]) -> String {
    let [first, others @ ..] = names else { return String::new() };
    if others.is_empty() {
        return (*first).to_owned();
    }
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    if others.iter().all(|other| last(other) == last(first)) {
        return last(first);
    }
    let shared = |other: &&str| first.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let beginning: String = first.chars().take(others.iter().map(shared).min().unwrap_or(0)).collect();
    let beginning = beginning.trim_end_matches(['-', '_', '.', '/']);
    // The name of one of several models is not that of all.
    if beginning.is_empty() || names.contains(&beginning) { first_of(names) } else { beginning.to_owned() }
}

/// The first of several names, and how many there are beside it.
fn first_of(names: &[&str]) -> String {
    match names {
        [first] => (*first).to_owned(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
        [] => String::new(),
    }
}

fn difference_of([a, b]: &[String; 2]) -> String {
    format!("{b} − {a}")
}

/// A, B, and their difference on one task.
fn task_rows(
    comparison: &PairedComparison,
    classification: &Classification,
    data: &str,
    models: &[ComparedModel],
) -> Vec<ResultRow> {
    let runs = models.len() / 2;
    let row = |model: String, metric: &str, value: f64| ResultRow {
        model,
        protocol: classification.protocol.clone(),
        data: data.into(),
        task: classification.task.name.clone(),
        metric: metric.into(),
        value,
        detail: classification.task.test_description(),
        ..Default::default()
    };
    let names = short_names(models);
    let named = |first: usize| match runs {
        1 => names[first].clone(),
        _ => format!("{}, mean", names[first]),
    };
    let difference = row(difference_of(&names), "difference of top-1 accuracy", 0.0).with(comparison.difference);
    vec![
        row(named(0), TOP_1, comparison.a),
        row(named(1), TOP_1, comparison.b),
        ResultRow {
            detail: detail(comparison, runs, &names),
            interval: comparison.run_interval.or(difference.interval),
            ..difference
        },
    ]
}

/// The test or the single runs behind a difference, as text.
fn detail(comparison: &PairedComparison, runs: usize, [a, b]: &[String; 2]) -> String {
    let counts = format!("only {a} right {}, only {b} right {}", comparison.only_a, comparison.only_b);
    match (comparison.p_value, comparison.run_interval) {
        (Some(p), _) => {
            let text = match p {
                ..1e-3 => "p < 0.001".into(),
                ..=SIGNIFICANT => format!("p = {p:.3}"),
                _ => format!("p = {p:.3}, {NOT_CONFIRMED}"),
            };
            format!("paired over images; {counts}; McNemar's exact test {text}")
        }
        (None, Some(_)) => {
            let each: Vec<String> = comparison.run_differences.iter().map(|d| format!("{:+.1}", 100.0 * d)).collect();
            let (low, high) = comparison.difference.interval;
            format!(
                "over {runs} pairs (Student's t), each {} points; {counts}; for these runs alone, paired over images, \
                 {:+.1} to {:+.1}",
                each.join(", "),
                100.0 * low,
                100.0 * high
            )
        }
        _ => counts,
    }
}

#[cfg(test)]
mod tests {
    use super::{ComparedModel, introduction, short_names};

    #[test]
    fn several_models_have_the_name_that_they_share() {
        let of = |names: &[&'static str]| {
            short_names(&names.iter().map(|&name| ComparedModel { name, classifications: &[] }).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a/baseline", "a"]), ["a/baseline", "a"]);
        let said = |names: &[&'static str]| {
            introduction(&names.iter().map(|&name| ComparedModel { name, classifications: &[] }).collect::<Vec<_>>())
        };
        assert_eq!(said(&["plain-0", "full-0"]), None);
        let all = said(&["plain-0", "full-0", "plain-1", "full-1"]);
        assert_eq!(all.as_deref(), Some("plain: plain-0, plain-1; full: full-0, full-1"));
        assert_eq!(of(&["a-1/baseline", "a-1", "a-1-1/baseline", "a-1-1"]), ["baseline", "a-1 and 1 more"]);
        assert_eq!(of(&["plain-0", "full-0", "plain-1", "full-1"]), ["plain", "full"]);
        assert_eq!(of(&["plain", "full", "other", "more"]), ["plain and 1 more", "full and 1 more"]);
        assert_eq!(of(&["x/run", "y/run", "z/run", "w/run"]), ["x/run and 1 more", "y/run and 1 more"]);
    }
}
