//! Files of a run that reports read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use equimod_core::checkpoint::{MANIFEST, Manifest};
use equimod_core::model::{MODEL_FILE, checkpoint_folders};
use equimod_eval::ResultRow;
use equimod_eval::report::Series;
use equimod_eval::results::Results;
use serde_json::Value;

use crate::run_state::METRICS_FILE;

/// The lines of `metrics.jsonl`.
#[derive(Clone)]
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

/// Results at the end of the run, if there are any, and of all later evaluations; those of weights that the run had before
/// it was resumed are left out.
///
/// # Errors
///
/// If a file cannot be read.
pub fn all_results(run: &Path) -> anyhow::Result<Vec<ResultRow>> {
    let weights = sha256_of_weights(run);
    let mut rows = Vec::new();
    for (_, results) in results_files(run)? {
        if !is_of_earlier_weights(&results, weights.as_deref()) {
            rows.extend(results.rows);
        }
    }
    Ok(rows)
}

/// The files of results that are of weights which the run had before it was resumed.
pub fn earlier_results(run: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let weights = sha256_of_weights(run);
    let earlier =
        results_files(run)?.into_iter().filter(|(_, results)| is_of_earlier_weights(results, weights.as_deref()));
    Ok(earlier.map(|(file, _)| file).collect())
}

/// SHA-256 of the last weights of a run, as its newest checkpoint records it.
fn sha256_of_weights(run: &Path) -> Option<String> {
    let newest = checkpoint_folders(run).ok()?.into_iter().next()?;
    let manifest: Manifest = serde_json::from_slice(&fs::read(newest.join(MANIFEST)).ok()?).ok()?;
    manifest.files.into_iter().find(|file| file.name == MODEL_FILE).map(|file| file.sha256)
}

fn is_of_earlier_weights(results: &Results, weights: Option<&str>) -> bool {
    results.models.first().zip(weights).is_some_and(|(model, weights)| model.sha256 != weights)
}

/// All files of results in a run, with their content.
fn results_files(run: &Path) -> anyhow::Result<Vec<(PathBuf, Results)>> {
    let mut files = vec![run.join("results.json")];
    if let Ok(folders) = fs::read_dir(run.join("eval")) {
        let mut later: Vec<PathBuf> = folders.flatten().map(|folder| folder.path().join("results.json")).collect();
        later.sort();
        files.extend(later);
    }
    let read = |file: PathBuf| {
        let read = fs::read(&file).map_err(anyhow::Error::from).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let results =
            read.with_context(|| format!("cannot read {}; evaluate the run again with this version", file.display()))?;
        Ok((file, results))
    };
    files.into_iter().filter(|file| file.is_file()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use equimod_core::checkpoint::{commit_folder, sha256};
    use equimod_eval::results::EvaluatedModel;

    #[test]
    fn results_of_the_weights_before_a_run_went_on_are_left_out() -> anyhow::Result<()> {
        let run = tempfile::tempdir()?;
        let save = |step: &str, weights: &str| {
            commit_folder(&run.path().join("checkpoints"), step, &[(MODEL_FILE, weights.into())]).map(drop)
        };
        let evaluate = |name: &str, weights: &str, value: f64| -> anyhow::Result<()> {
            let model = EvaluatedModel { sha256: sha256(weights.as_bytes()), ..Default::default() };
            let rows = vec![ResultRow { value, ..Default::default() }];
            let results = Results { models: vec![model], rows, ..Default::default() };
            let folder = run.path().join("eval").join(name);
            fs::create_dir_all(&folder)?;
            Ok(fs::write(folder.join("results.json"), serde_json::to_vec(&results)?)?)
        };
        let values =
            || -> anyhow::Result<Vec<f64>> { Ok(all_results(run.path())?.into_iter().map(|row| row.value).collect()) };
        save("step-00000001", "first")?;
        evaluate("knn", "first", 0.25)?;
        assert_eq!((values()?, earlier_results(run.path())?.len()), (vec![0.25], 0));
        save("step-00000002", "second")?;
        evaluate("linear", "second", 0.5)?;
        assert_eq!(values()?, [0.5]);
        assert_eq!(earlier_results(run.path())?, [run.path().join("eval/knn/results.json")]);
        Ok(())
    }
}
