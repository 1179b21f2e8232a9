//! Files of a run that reports read.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use equimod_eval::ResultRow;
use equimod_eval::report::Series;
use equimod_eval::results::Results;
use equimod_train::{RunInfo, Status};
use serde_json::Value;

/// The numbers of a run, a line for each step and probe.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The lines of `metrics.jsonl`.
pub struct Metrics(Vec<Value>);

impl Metrics {
    /// Reads the metrics of the run directory `run`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn read(run: &Path) -> anyhow::Result<Self> {
        let path = run.join(METRICS_FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    }

    /// Names of all metrics, in order of first appearance.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for key in self.0.iter().filter_map(Value::as_object).flat_map(|line| line.keys()) {
            if !names.contains(key) {
                names.push(key.clone());
            }
        }
        names
    }

    /// Number of the last step.
    pub fn steps(&self) -> u64 {
        self.0.iter().filter_map(|line| line.get("step")?.as_u64()).max().unwrap_or_default()
    }

    /// The metric `key` over steps, as a series called `name`.
    pub fn series(&self, name: &str, key: &str) -> Series {
        let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.get(key)?.as_f64()?));
        Series { name: name.into(), points: self.0.iter().filter_map(point).collect() }
    }
}

/// Results at the end of the run, if there are any, and of all later evaluations.
///
/// # Errors
///
/// If a file cannot be read.
pub fn all_results(run: &Path) -> anyhow::Result<Vec<ResultRow>> {
    let mut files = vec![run.join("results.json")];
    if let Ok(folders) = fs::read_dir(run.join("eval")) {
        let mut later: Vec<PathBuf> = folders.flatten().map(|folder| folder.path().join("results.json")).collect();
        later.sort();
        files.extend(later);
    }
    let mut rows = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let read = fs::read(file).map_err(anyhow::Error::from).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let Results { rows: more, .. } =
            read.with_context(|| format!("cannot read {}; evaluate the run again with this version", file.display()))?;
        rows.extend(more);
    }
    Ok(rows)
}

/// A text as a part of the name of a folder of evaluations.
pub fn dashed(text: &str) -> String {
    let dashed: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    dashed.trim_matches('-').to_owned()
}

/// Whether the run in a folder was killed: its files call it running, and no process has it open.
pub fn is_killed(folder: &Path, info: &RunInfo) -> bool {
    info.status == Status::Running && !is_open(folder)
}

/// Status of the run in a folder.
pub fn status(folder: &Path, info: &RunInfo) -> String {
    if is_killed(folder, info) { "killed".into() } else { info.status.to_string() }
}

/// Seconds of training that the file of a run does not count: since the last start of a run that has not ended, until
/// its last metrics if it was killed, or else until now.
pub fn unrecorded_seconds(folder: &Path, info: &RunInfo) -> f64 {
    match info.status {
        Status::Running if is_killed(folder, info) => seconds_to_last_metrics(folder),
        Status::Running => seconds_since_start(folder, Some(SystemTime::now())),
        _ => 0.0,
    }
}

/// Seconds from the last start of a run to its last metrics.
pub fn seconds_to_last_metrics(folder: &Path) -> f64 {
    seconds_since_start(folder, written(&folder.join(METRICS_FILE)))
}

/// Seconds from the last start of a run, when its file was written.
fn seconds_since_start(folder: &Path, end: Option<SystemTime>) -> f64 {
    let spent = end.zip(written(&folder.join("run.json"))).and_then(|(end, start)| end.duration_since(start).ok());
    spent.unwrap_or_default().as_secs_f64()
}

/// Time of the last change of a file.
fn written(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|file| file.modified()).ok()
}

/// Whether a process trains in the folder. Where that cannot be told, one may.
fn is_open(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(".lock")) else { return true };
    !matches!(lock.try_lock_shared(), Ok(()) | Err(TryLockError::Error(_)))
}
