//! From the run directories of a study to its record.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use equimod_eval::ResultRow;
use equimod_eval::results::TOP_1;
use equimod_eval::study::{Cell, FORMAT, Hits, Measure, Run, State, StudyRecord};
use equimod_train::RunInfo;

use super::session::{Session, Unit};
use super::work::{Stage, folder_of, results_of, stage};
use crate::outputs::evaluation::file_name;
use crate::run::facts::training_facts;
use crate::run::files::Metrics;

/// Points of a curve.
const POINTS: usize = 40;
/// Significant digits of the points of a curve.
const DIGITS: i32 = 4;

/// Reads all runs of the study, finished or not.
///
/// # Errors
///
/// If a file of a run cannot be read.
pub fn collect(session: &Session) -> anyhow::Result<StudyRecord> {
    let (file, plan) = (&session.plan.file, &session.plan);
    let mut record = StudyRecord {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        name: file.name.clone(),
        about: file.about.clone(),
        data: session.data(),
        matched_by: file.matched_by.name().into(),
        seeds: file.seeds.clone(),
        evaluations: file.evaluations.iter().map(|one| one.line.clone()).collect(),
        ..StudyRecord::default()
    };
    for (cell, size) in plan.cells.iter().zip(&session.sizes) {
        record.cells.push(Cell {
            name: cell.name.clone(),
            settings: cell.settings.iter().map(|setting| setting.text.clone()).collect(),
            baselines: cell.baselines.iter().map(|&other| plan.cells[other].name.clone()).collect(),
            images: size.images.clone(),
            parameters: size.parameters,
            flops: size.flops,
            epochs: cell.recipe.schedule.epochs,
            steps: size.steps,
            runs: Vec::new(),
        });
    }
    for unit in session.units(None) {
        let run = run(session, &unit, &mut record.measures)?;
        record.cells[unit.cell].runs.push(run);
    }
    // Runs that were read before the last measure was met lack its place.
    let measures = record.measures.len();
    let runs = record.cells.iter_mut().flat_map(|cell| &mut cell.runs);
    runs.filter(|run| !run.values.is_empty()).for_each(|run| run.values.resize(measures, None));
    Ok(record)
}

/// Reads a run; new measures are added to `measures`.
fn run(session: &Session, unit: &Unit, measures: &mut Vec<Measure>) -> anyhow::Result<Run> {
    if let Some((run, of)) = session.merged(unit) {
        return Ok(merged(run, of, measures));
    }
    let (folder, stage) = (&unit.folder, stage(session, unit)?);
    let mut run = Run { seed: unit.seed, ..Run::default() };
    if !stage.is_final() {
        return Ok(run);
    }
    let info = RunInfo::read(folder)?;
    run.recipe = session.recipe_hash(unit)?;
    (run.images, run.seconds, run.peak_memory) = (info.data_fingerprint, info.seconds, info.peak_memory);
    run.device = info.device;
    run.curves = curves(&Metrics::read(folder)?);
    if stage == Stage::Diverged {
        run.state = State::Diverged;
        run.remark = evidence(folder);
        return Ok(run);
    }
    let (recipe, _) = session.recipe(unit)?;
    let facts = training_facts(folder, &recipe, session.sizes[unit.cell].steps)?;
    run.state = State::Finished;
    if let Some((metric, value)) = facts.collapsed {
        (run.state, run.remark) = (State::Collapsed, format!("{metric} is {value:.3}"));
    }
    for evaluation in &session.plan.file.evaluations {
        let results = results_of(folder, evaluation).context("an evaluation is missing")?;
        for row in &results.rows {
            add(&mut run, row, &folder_of(folder, evaluation), measures)?;
        }
    }
    Ok(run)
}

/// Adds the value of a row, and the predictions behind it.
fn add(run: &mut Run, row: &ResultRow, folder: &Path, measures: &mut Vec<Measure>) -> anyhow::Result<()> {
    let number = place(&Measure::of(row), measures);
    run.values.resize(run.values.len().max(number + 1), None);
    run.values[number] = Some(row.value).filter(|value| value.is_finite());
    if row.metric == TOP_1 {
        let right = right(&folder.join(format!("predictions-{}.csv", file_name(&row.task))))?;
        // Those of another share of the labels are in a file of another name.
        let share = right.iter().filter(|one| **one).count() as f64 / right.len().max(1) as f64;
        if !right.is_empty() && (share - row.value).abs() < 1e-9 {
            run.hits.push(Hits::pack(number, &right));
        }
    }
    Ok(())
}

/// A run of another machine with the measures of this record.
fn merged(run: &Run, of: &[Measure], measures: &mut Vec<Measure>) -> Run {
    let mut merged = Run { values: Vec::new(), hits: Vec::new(), ..run.clone() };
    for (number, value) in run.values.iter().enumerate().filter(|(_, value)| value.is_some()) {
        let here = place(&of[number], measures);
        merged.values.resize(merged.values.len().max(here + 1), None);
        merged.values[here] = *value;
        let hits = run.hits.iter().filter(|hits| hits.measure == number);
        merged.hits.extend(hits.map(|hits| Hits { measure: here, ..hits.clone() }));
    }
    merged
}

/// Index of a measure, which is added if it is new.
fn place(measure: &Measure, measures: &mut Vec<Measure>) -> usize {
    measures.iter().position(|known| known.is_same(measure)).unwrap_or_else(|| {
        measures.push(measure.clone());
        measures.len() - 1
    })
}

/// Which images of a table of predictions are right; empty if there is no such file.
fn right(path: &Path) -> anyhow::Result<Vec<bool>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let mut table = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let column = table.headers()?.iter().position(|heading| heading == "right");
    let column = column.with_context(|| format!("{} has no column right", path.display()))?;
    table.records().map(|line| Ok(line?.get(column) == Some("1"))).collect()
}

/// Losses and equivariance during training.
fn curves(metrics: &Metrics) -> BTreeMap<String, Vec<f64>> {
    let wanted = |name: &String| {
        ["loss", "invariance_loss"].contains(&name.as_str()) || name.ends_with(".absolute_equivariance")
    };
    let names = metrics.names().into_iter().filter(wanted);
    let curve = |name: String| {
        let points: Vec<f64> = metrics.series("", &name).points.into_iter().map(|(_, value)| value).collect();
        (name, averaged(&points))
    };
    names.map(curve).filter(|(_, points)| !points.is_empty()).collect()
}

/// Means over at most [`POINTS`] intervals of nearly equal length.
fn averaged(points: &[f64]) -> Vec<f64> {
    let count = points.len().min(POINTS);
    let mean = |place: usize| {
        let interval = &points[place * points.len() / count..(place + 1) * points.len() / count];
        rounded(interval.iter().sum::<f64>() / interval.len() as f64)
    };
    (0..count).map(mean).filter(|value| value.is_finite()).collect()
}

/// A value with a few significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(DIGITS - value.abs().log10().ceil() as i32);
    (value * scale).round() / scale
}

/// Where a run diverged.
fn evidence(folder: &Path) -> String {
    let steps = std::fs::read_dir(folder.join("diverged")).into_iter().flatten().flatten();
    let name = steps.map(|entry| entry.file_name().to_string_lossy().into_owned()).max();
    name.map_or_else(String::new, |name| format!("at {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_averaged_and_rounded() {
        let points: Vec<f64> = (0..100).map(f64::from).collect();
        let averaged = averaged(&points);
        assert_eq!((averaged.len(), averaged[0], averaged[39]), (40, 0.5, 98.0));
        assert_eq!(super::averaged(&[3.0]), [3.0]);
        assert!(super::averaged(&[]).is_empty());
        assert_eq!([rounded(1.234567), rounded(-0.00123456), rounded(0.0)], [1.235, -0.001235, 0.0]);
    }
}
