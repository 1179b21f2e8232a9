//! Few-shot episodes, and measures of features and predictions.

use std::process::ExitCode;

use equimod_core::Model;
use equimod_eval::ResultRow;
use equimod_eval::few_shot::FewShotConfig;
use equimod_eval::report::{Bar, Bars, Figure, Plot, Section, Series};

use super::session::{Found, Session};
use crate::cli::{CropKind, Equivariance, FewShot, Health, Params, Retrieval};
use crate::evaluation::measures::{
    ABSOLUTE, R2, SHUFFLED, equivariance_each, health as health_of, parameters, predictor_retrieval,
};
use crate::evaluation::{Evaluation, Pictures, Settings, beside, equivariance as equivariance_of, page};
use crate::output;

/// Pictures a class to learn from, where they were not asked for.
const SHOTS: [u32; 2] = [1, 5];

/// Tasks of retrieval across designs.
const ACROSS: [&str; 2] = ["flags", "cross-design"];

/// `eval few-shot`.
pub fn few_shot(arguments: &FewShot) -> anyhow::Result<ExitCode> {
    let session = Session::open(&arguments.common, CropKind::Centre)?;
    let shots = if arguments.shots.is_empty() { SHOTS.to_vec() } else { arguments.shots.clone() };
    let mut sections = Vec::new();
    let rows = measured(&session, |model| {
        let evaluation = Evaluation::new(model, &session.splits, session.settings())?;
        let mut rows = Vec::new();
        for &shots in &shots {
            rows.extend(evaluation.few_shot(&FewShotConfig {
                ways: arguments.ways as usize,
                shots: shots as usize,
                queries: arguments.queries as usize,
                episodes: arguments.episodes as usize,
            })?);
        }
        if sections.is_empty() {
            sections = page::galleries(&evaluation, evaluation.tasks()?.iter())?;
        }
        Ok(rows)
    })?;
    let summary = "Intervals are 95 % intervals of the mean over episodes, which share pictures.";
    session.finish("few-shot", Found { rows, sections, summary, ..Default::default() })
}

/// `eval equivariance`.
pub fn equivariance(arguments: &Equivariance) -> anyhow::Result<ExitCode> {
    let session = Session::open(&arguments.common, CropKind::Centre)?;
    let pictures = pictures(&session, arguments.pictures);
    let rows = measured(&session, |model| {
        let mut rows = equivariance_of(model, &pictures)?;
        if !arguments.overall {
            rows.extend(equivariance_each(model, &pictures)?);
        }
        Ok(rows)
    })?;
    let control = |bar: &ResultRow| rows.iter().find(|row| row.task == bar.task && row.metric == SHUFFLED);
    let bars = rows.iter().filter(|row| row.metric == ABSOLUTE).map(|row| Bar {
        label: short(&row.task),
        value: row.value,
        interval: row.interval,
        beside: control(row).map(|row| row.value),
    });
    let figure = Figure::Bars(Bars {
        title: "absolute equivariance: above 0, a prediction is nearer to its view than the clean picture is".into(),
        name: "with each view's own parameters".into(),
        beside: Some("control: with wrong parameters".into()),
        bars: bars.collect(),
    });
    let sections = vec![Section::new("Equivariance", vec![figure])];
    let summary = "Intervals are 95 % bootstrap intervals over pictures, each with all its views. The control takes the parameters of \
                   another picture's view; of an augmentation that is only on or off (a flip, grayscale), those of no change.";
    session.finish("equivariance", Found { rows, sections, summary, ..Default::default() })
}

/// `eval params`.
pub fn params(arguments: &Params) -> anyhow::Result<ExitCode> {
    let session = Session::open(&arguments.common, CropKind::Centre)?;
    let most = arguments.pictures as usize;
    let splits = &session.splits;
    let pictures = Pictures { name: &splits.name, dataset: splits.train.as_ref(), most, seed: arguments.common.seed };
    let rows = measured(&session, |model| parameters(model, &pictures))?;
    let figure = |protocol: &str| {
        let bars = rows.iter().filter(|row| row.metric == R2 && row.protocol == protocol).map(|row| Bar {
            label: short(&row.task),
            value: row.value.max(-0.2),
            interval: None,
            beside: row.untrained.map(|value| value.max(-0.2)),
        });
        Figure::Bars(Bars {
            title: format!("{protocol}: R² on held-out pictures (below −0.2 drawn as such)"),
            name: "this model".into(),
            beside: arguments.common.untrained.then(|| "untrained".to_owned()),
            bars: bars.collect(),
        })
    };
    let figures = vec![figure("params, absolute"), figure("params, relative")];
    let sections = vec![Section::new("What features keep of each parameter", figures)];
    let summary = "R² on held-out pictures of the training split; 0 is what guessing the mean gives. The chance of a flag is its more \
                   frequent value.";
    session.finish("params", Found { rows, sections, summary, ..Default::default() })
}

/// `eval retrieval`.
pub fn retrieval(arguments: &Retrieval) -> anyhow::Result<ExitCode> {
    let session = Session::open(&arguments.common, CropKind::Centre)?;
    let pictures = pictures(&session, arguments.pictures);
    let (across, asked): (Vec<String>, Vec<String>) =
        session.settings().tasks.iter().cloned().partition(|task| ACROSS.contains(&task.as_str()));
    let all = session.settings().tasks.is_empty();
    let settings = Settings { tasks: &asked, ..session.settings() };
    let mut sections = Vec::new();
    let rows = measured(&session, |model| {
        let mut rows = Vec::new();
        match predictor_retrieval(model, &pictures, arguments.views as usize) {
            Ok(found) => rows.extend(found),
            Err(error) => output::note(&format!("no retrieval by the predictor: {error}")),
        }
        if !session.splits.train.tasks().is_empty() {
            let evaluation = Evaluation::new(model, &session.splits, settings)?;
            if all || !asked.is_empty() {
                rows.extend(evaluation.recall()?);
                if sections.is_empty() {
                    sections = page::galleries(&evaluation, evaluation.tasks()?.iter())?;
                }
            }
            let wanted = |row: &ResultRow| all || across.contains(&row.task);
            rows.extend(evaluation.cross_design()?.into_iter().filter(wanted));
        }
        Ok(rows)
    })?;
    anyhow::ensure!(!rows.is_empty(), "neither does the model predict views, nor have the pictures labels");
    let summary = "Intervals are 95 % bootstrap intervals over pictures; chance is what a random order gives.";
    session.finish("retrieval", Found { rows, sections, summary, ..Default::default() })
}

/// `eval health`.
pub fn health(arguments: &Health) -> anyhow::Result<ExitCode> {
    let session = Session::open(&arguments.common, CropKind::Centre)?;
    let pictures = pictures(&session, arguments.pictures);
    let mut lines = Vec::new();
    let mut maps = Vec::new();
    let rows = measured(&session, |model| {
        let evaluation = Evaluation::new(model, &session.splits, session.settings())?;
        let (rows, deviations) = health_of(model, evaluation.shown().0, &pictures)?;
        let name = if lines.is_empty() { "this model" } else { "untrained" };
        let points = deviations.iter().enumerate().map(|(i, &deviation)| (i as f64 + 1.0, deviation)).collect();
        lines.push(Series { name: name.into(), points });
        if maps.is_empty() {
            maps = page::maps(&evaluation, arguments.common.map)?;
        }
        Ok(rows)
    })?;
    let plot = Plot {
        title: "standard deviation of each dimension, falling".into(),
        x_label: "dimension".into(),
        series: lines,
    };
    let sections = vec![Section::lines("Deviations", vec![plot]), Section::new("Map of features", maps)];
    let summary = "Of the test pictures, without labels.";
    session.finish("health", Found { rows, sections, summary, ..Default::default() })
}

/// A task's name without its unit and the augmentation or module it belongs to: `equimod, grayscale alone` → `grayscale
/// alone`, `colour-jitter: hue (share of the circle)` → `hue`.
fn short(task: &str) -> String {
    let name = task.split(" (").next().unwrap_or(task);
    let name = name.split_once(": ").map_or(name, |(_, rest)| rest);
    match name.split_once(", ") {
        Some((_, alone)) if alone.ends_with("alone") => alone.into(),
        Some((value, "difference")) => value.into(),
        _ => name.into(),
    }
}

/// The test pictures, or the training pictures where there are none.
fn pictures<'a>(session: &'a Session, most: u32) -> Pictures<'a> {
    let splits = &session.splits;
    let dataset = splits.test.as_ref().unwrap_or(&splits.train).as_ref();
    Pictures { name: &splits.name, dataset, most: most as usize, seed: session.arguments.seed }
}

/// What is measured of the model, beside the untrained network if it was asked for.
fn measured(
    session: &Session,
    mut measure: impl FnMut(&Model) -> anyhow::Result<Vec<ResultRow>>,
) -> anyhow::Result<Vec<ResultRow>> {
    let rows = measure(&session.model)?;
    match session.untrained()? {
        Some(untrained) => Ok(beside(rows, &measure(&untrained)?)),
        None => Ok(rows),
    }
}
