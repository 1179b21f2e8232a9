//! Summary of a run, from its files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::Context;
use equimod_eval::ResultRow;
use equimod_eval::results::{TOP_1, best_founded, is_reduced};
use equimod_train::run_dir::RESOLVED;
use equimod_train::{GitState, Recipe, RunInfo, recorded, settings};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::reference::plain_name;
use crate::run::files::all_results;
use crate::run_state::{METRICS_FILE, status, unrecorded_seconds};

/// An accuracy, and what it is one of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Name of the probe, or protocol and task.
    pub name: String,
    /// Top-1 accuracy from 0 to 1.
    pub value: f64,
}

/// A run.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Path within the searched folder.
    pub run: String,
    /// Status; `killed` if it is `running` in `run.json` and no process has the run open.
    pub status: String,
    /// Time of the first start.
    pub started: Option<String>,
    /// Time of the last end.
    pub ended: Option<String>,
    /// Training time in seconds: until now of a run that goes on, and until its last metrics of one that was killed.
    pub seconds: f64,
    /// Number of steps that were logged.
    pub step: u64,
    /// Epoch of the last step, from 1.
    pub epoch: u64,
    /// Number of epochs of the whole run.
    pub epochs: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// The last result of the probe that selects the best checkpoint.
    pub probe: Option<Score>,
    /// Top-1 accuracy after training, of the protocol and task that most of the listed runs share.
    pub eval: Option<Score>,
    /// The accuracies after training, the best founded first.
    #[serde(skip)]
    pub accuracies: Vec<Score>,
    /// Fingerprint of the training images.
    pub data_fingerprint: String,
    /// Git repository at the first start.
    pub git: Option<GitState>,
    /// Settings as TOML, with the names of the modules as `equivariance` and initial weights as `from`; in JSON, their
    /// values.
    #[serde(serialize_with = "as_values")]
    pub settings: BTreeMap<String, String>,
}

/// Writes settings that are texts in TOML as values.
fn as_values<S: Serializer>(settings: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = |text: &String| {
        let table = format!("value = {text}").parse::<toml::Table>().ok();
        table.and_then(|mut table| table.remove("value")).unwrap_or_else(|| toml::Value::String(text.clone()))
    };
    serializer.collect_map(settings.iter().map(|(name, text)| (name, value(text))))
}

impl Summary {
    /// Reads the files of the run in `folder`.
    ///
    /// # Errors
    ///
    /// If one of them is missing or damaged.
    pub fn read(folder: &Path, run: &str) -> anyhow::Result<Self> {
        let info = RunInfo::read(folder)?;
        let recipe = recorded(&folder.join(RESOLVED))?;
        let Newest { step, probe } = Newest::read(&folder.join(METRICS_FILE))?;
        let count = |name: &str| step.get(name).and_then(Value::as_u64).unwrap_or(0);
        let accuracies = accuracies(&all_results(folder)?, plain_name(&recipe.data.source));
        let mut settings = settings(&recipe);
        settings.remove("about");
        settings.insert("equivariance".into(), modules(&recipe));
        settings.extend(info.from.iter().map(|from| ("from".into(), from.model.clone())));
        let (status, spent) = (status(folder, &info), unrecorded_seconds(folder, &info));
        Ok(Self {
            run: run.into(),
            status,
            started: info.started,
            ended: info.ended,
            seconds: info.seconds + spent,
            step: count("step"),
            epoch: count("epoch"),
            epochs: recipe.schedule.epochs,
            loss: step.get("loss").and_then(Value::as_f64),
            probe: probe_score(&recipe, &probe),
            eval: accuracies.first().cloned(),
            accuracies,
            data_fingerprint: info.data_fingerprint,
            git: info.git,
            settings,
        })
    }
}

/// The newest lines of `metrics.jsonl`, null if there are none.
#[derive(Default)]
struct Newest {
    step: Value,
    probe: Value,
}

impl Newest {
    /// Reads the file line by line; a run that was killed early has none.
    fn read(path: &Path) -> anyhow::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let (mut step, mut probe) = (String::new(), String::new());
        let (mut lines, mut line) = (BufReader::new(file), String::new());
        while lines.read_line(&mut line).with_context(|| format!("cannot read {}", path.display()))? > 0 {
            if line.ends_with('\n') {
                std::mem::swap(if line.contains("\"probe.") { &mut probe } else { &mut step }, &mut line);
            }
            line.clear();
        }
        let [step, probe] = [step, probe].map(|line| serde_json::from_str(&line).unwrap_or_default());
        Ok(Self { step, probe })
    }
}

fn probe_score(recipe: &Recipe, probe: &Value) -> Option<Score> {
    let name = recipe.probe.best_by.name();
    let data = recipe.probe.data.as_str();
    let is_own = data.is_empty() || plain_name(data) == plain_name(&recipe.data.source);
    let full = if is_own { name.to_owned() } else { format!("{name} on {data}") };
    Some(Score { name: full, value: probe.get(format!("probe.{name}"))?.as_f64()? })
}

/// The best founded accuracy of each protocol and task, first those on the images `own` of the run; those on others name
/// them.
fn accuracies(rows: &[ResultRow], own: &str) -> Vec<Score> {
    let mut scores: Vec<Score> = Vec::new();
    let top_1 = best_founded(rows).into_iter().filter(|row| row.metric == TOP_1);
    let (on_own, on_others): (Vec<&ResultRow>, Vec<&ResultRow>) = top_1.partition(|row| plain_name(&row.data) == own);
    for row in on_own.into_iter().chain(on_others) {
        let quick = if is_reduced(row) { "quick " } else { "" };
        let settings = if row.settings.is_empty() { String::new() } else { format!("({})", row.settings) };
        let data = if plain_name(&row.data) == own { String::new() } else { format!("on {}", row.data) };
        let parts = [format!("{quick}{}", row.protocol), row.task.clone(), data, settings];
        let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if !scores.iter().any(|score| score.name == name) {
            scores.push(Score { name, value: row.value });
        }
    }
    scores
}

/// Names of the equivariance modules.
fn modules(recipe: &Recipe) -> String {
    let names: Vec<&str> = recipe.equivariance.on().iter().map(|(name, _)| *name).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
