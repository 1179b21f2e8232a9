//! Summary of a run, from its files.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::Context;
use equimod_eval::ResultRow;
use equimod_eval::results::headline_accuracy;
use equimod_train::run_dir::RESOLVED;
use equimod_train::{GitState, Recipe, RunInfo, Status, recorded, settings};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::run::files::all_results;

/// An accuracy, and what it is one of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Name of the probe, or protocol and task.
    pub name: String,
    /// Top-1 accuracy from 0 to 1.
    pub value: f64,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Path within the searched folder.
    pub run: String,
    /// Status; `killed` if it is `running` in `run.json` and no process has the run open.
    pub status: String,
    /// Time of the first start.
    pub started: Option<String>,
    /// Time of the last end.
    pub ended: Option<String>,
    /// Training time in seconds.
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
    /// Top-1 accuracy after training.
    pub eval: Option<Score>,
    /// Git repository at the first start.
    pub git: Option<GitState>,
    /// Settings as TOML; in JSON, their values.
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
        let Newest { step, probe } = Newest::read(&folder.join("metrics.jsonl"))?;
        let count = |name: &str| step.get(name).and_then(Value::as_u64).unwrap_or(0);
        let is_killed = info.status == Status::Running && !is_open(folder);
        let mut settings = settings(&recipe);
        settings.remove("about");
        Ok(Self {
            run: run.into(),
            status: if is_killed { "killed".into() } else { info.status.to_string() },
            started: info.started,
            ended: info.ended,
            seconds: info.seconds,
            step: count("step"),
            epoch: count("epoch"),
            epochs: recipe.schedule.epochs,
            loss: step.get("loss").and_then(Value::as_f64),
            probe: probe_score(&recipe, &probe),
            eval: headline(&all_results(folder)?),
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

/// Whether a process trains in the folder. Where that cannot be told, one may.
fn is_open(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(".lock")) else { return true };
    !matches!(lock.try_lock_shared(), Ok(()) | Err(TryLockError::Error(_)))
}

fn probe_score(recipe: &Recipe, probe: &Value) -> Option<Score> {
    let name = recipe.probe.best_by.name();
    Some(Score { name: name.into(), value: probe.get(format!("probe.{name}"))?.as_f64()? })
}

fn headline(rows: &[ResultRow]) -> Option<Score> {
    let row = headline_accuracy(rows)?;
    let name = format!("{} {}", row.protocol, row.task).trim_end().to_owned();
    Some(Score { name, value: row.value })
}
