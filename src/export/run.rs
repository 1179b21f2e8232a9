//! What a run directory adds to an export: recipe, curves, results, and what training took.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use equimod_core::Model;
use equimod_eval::results::{Results, markdown};
use equimod_train::{Recipe, RunInfo};

use super::{Files, Training};
use crate::scan::without_paths;

/// The recipe of a run in an export.
pub const RECIPE_FILE: &str = "recipe.toml";
/// Numbers, here and in each folder of evaluations.
pub const RESULTS_FILE: &str = "results.json";
/// The same as a table.
pub const TABLE_FILE: &str = "results.md";

/// Files of a run, and what is said of it.
#[derive(Default)]
pub struct RunFiles {
    /// By their names in an export.
    pub files: Files,
    /// What training took.
    pub training: Option<Training>,
    /// What was not taken, and why.
    pub left_out: Vec<String>,
}

impl RunFiles {
    /// Of the run that `path` is, if it is one, and of more folders of evaluations of `model`.
    pub fn of(path: &Path, model: &Model, results: &[PathBuf]) -> anyhow::Result<Self> {
        let mut found = Self::default();
        if path.join("run.json").is_file() {
            found.run(path, model)?;
        }
        for folder in results {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let file = folder.join(RESULTS_FILE);
            anyhow::ensure!(
                file.is_file(),
                "{} holds no {RESULTS_FILE}; give the --out of an evaluation",
                folder.display()
            );
            found.results(&file, &format!("eval/{name}/"), model)?;
        }
        Ok(found)
    }

    fn run(&mut self, run: &Path, model: &Model) -> anyhow::Result<()> {
        let recipe = self.text(&run.join("recipe.resolved.toml"), RECIPE_FILE)?;
        let recipe: Recipe = equimod_train::resolve(&[], RECIPE_FILE, &recipe, &[])?;
        let info = RunInfo::read(run)?;
        self.training = Some(Training {
            data: recipe.data.source,
            data_fingerprint: info.data_fingerprint,
            epochs: recipe.schedule.epochs,
            batch: recipe.data.batch,
            about: recipe.about,
            command: without_paths(&info.command.join(" ")),
            device: info.device,
            seconds: info.seconds,
            peak_memory: info.peak_memory,
            from: info.from.map(|origin| format!("{} (sha256 {})", without_paths(&origin.model), origin.sha256)),
        });
        if run.join("metrics.jsonl").is_file() {
            self.text(&run.join("metrics.jsonl"), "metrics.jsonl")?;
        }
        for path in entries(run)? {
            let name = name(&path);
            if name.starts_with("events.out.tfevents") {
                self.files.insert(name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
            }
        }
        if run.join(RESULTS_FILE).is_file() {
            self.results(&run.join(RESULTS_FILE), "", model)?;
        }
        for folder in entries(&run.join("eval")).unwrap_or_default() {
            let file = folder.join(RESULTS_FILE);
            if file.is_file() {
                self.results(&file, &format!("eval/{}/", name(&folder)), model)?;
            }
        }
        Ok(())
    }

    /// Takes over a text without the paths of the machine.
    fn text(&mut self, path: &Path, name: &str) -> anyhow::Result<String> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = without_paths(&text);
        self.files.insert(name.into(), text.clone().into_bytes());
        Ok(text)
    }

    /// Takes over results, if they are of these weights and no others.
    fn results(&mut self, path: &Path, folder: &str, model: &Model) -> anyhow::Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let results: Results = serde_json::from_str(&without_paths(&text))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        match results.models.as_slice() {
            [one] if one.sha256 == model.sha256 => {}
            [_] => {
                self.left_out.push(format!("{}, which is of other weights", path.display()));
                return Ok(());
            }
            several => {
                self.left_out.push(format!("{}, which is of {} models", path.display(), several.len()));
                return Ok(());
            }
        }
        let mut bytes = serde_json::to_vec_pretty(&results)?;
        bytes.push(b'\n');
        self.files.insert(format!("{folder}{RESULTS_FILE}"), bytes);
        self.files.insert(format!("{folder}{TABLE_FILE}"), markdown(&results.rows).into_bytes());
        Ok(())
    }
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()));
    let mut paths = read()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
