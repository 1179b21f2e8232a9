//! Rows and figures of a paired comparison of two models A and B, over one or more pairs of runs.

use super::{Classification, TOP_1};
use crate::compare::{PairedComparison, compare_paired};
use crate::report::{Bar, Bars, Figure, Section};
use crate::results::NOT_CONFIRMED;
use crate::{Result, ResultRow};

/// Level of McNemar's exact test.
const LEVEL: f64 = 0.05;

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
    });
    Ok((rows, vec![Section::new("Differences", vec![figure])]))
}

/// Names of the two models: those of a single pair, else the letters that stand for all of them.
fn short_names<'a>(models: &[ComparedModel<'a>]) -> [&'a str; 2] {
    match models {
        [a, b] => [a.name, b.name],
        _ => ["A", "B"],
    }
}

fn difference_of([a, b]: &[&str; 2]) -> String {
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
    let named = |first: usize, letter: &str| match runs {
        1 => models[first].name.to_owned(),
        _ => format!("{letter}: {} and {} more", models[first].name, runs - 1),
    };
    let names = short_names(models);
    let difference = row(difference_of(&names), "difference of top-1 accuracy", 0.0).with(comparison.difference);
    vec![
        row(named(0, "A"), TOP_1, comparison.a),
        row(named(1, "B"), TOP_1, comparison.b),
        ResultRow {
            detail: detail(comparison, runs, &names),
            interval: comparison.run_interval.or(difference.interval),
            ..difference
        },
    ]
}

/// The test or the single runs behind a difference, as text.
fn detail(comparison: &PairedComparison, runs: usize, [a, b]: &[&str; 2]) -> String {
    let counts = format!("only {a} right {}, only {b} right {}", comparison.only_a, comparison.only_b);
    match (comparison.p_value, comparison.run_interval) {
        (Some(p), _) => {
            let text = match p {
                ..1e-3 => "p < 0.001".into(),
                ..=LEVEL => format!("p = {p:.3}"),
                _ => format!("p = {p:.3}, {NOT_CONFIRMED}"),
            };
            format!("paired over images; {counts}; McNemar's exact test {text}")
        }
        (None, Some(_)) => {
            let each: Vec<String> = comparison.run_differences.iter().map(|d| format!("{:+.1}", 100.0 * d)).collect();
            let (low, high) = comparison.difference.interval;
            format!(
                "over {runs} pairs (Student's t), each {} points; {counts}; for these runs alone, paired over images, \
                 {:.1} – {:.1}",
                each.join(", "),
                100.0 * low,
                100.0 * high
            )
        }
        _ => counts,
    }
}
