//! The files of a run that reports are made of.

use std::fs;
use std::path::Path;

use anyhow::Context;
use equimod_eval::report::Series;
use serde_json::Value;

/// The lines of `metrics.jsonl`.
pub struct Metrics(Vec<Value>);

impl Metrics {
    /// Reads those of the folder `run`.
    pub fn read(run: &Path) -> anyhow::Result<Self> {
        let path = run.join("metrics.jsonl");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    }

    /// The names of all metrics, in the order in which they come first.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for key in self.0.iter().filter_map(Value::as_object).flat_map(|line| line.keys()) {
            if !names.contains(key) {
                names.push(key.clone());
            }
        }
        names
    }

    /// One metric over steps.
    pub fn series(&self, name: &str, key: &str) -> Series {
        let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.get(key)?.as_f64()?));
        Series { name: name.into(), points: self.0.iter().filter_map(point).collect() }
    }
}
