//! Files of a run that reports read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use equimod_eval::ResultRow;
use equimod_eval::report::Series;
use equimod_eval::results::Results;
use serde_json::Value;

use crate::run_state::METRICS_FILE;

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
