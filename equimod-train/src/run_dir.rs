//! The run directory: what was asked for, what happened, checkpoints.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use equimod_core::checkpoint::{commit_folder, read_folder, write_atomic};
use equimod_core::model::checkpoint_folders;
use equimod_data::Skipped;
use serde::{Deserialize, Serialize};

use crate::recipe::Recipe;
use crate::{Error, Result};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Training, or stopped without having said so.
    Running,
    /// All epochs are done.
    Finished,
    /// Stopped on request, after a checkpoint.
    Interrupted,
    /// Stopped by an error.
    Failed,
}

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of the directory's layout.
    pub format: u32,
    /// Where the run stands.
    pub status: Status,
    /// Version of the program.
    pub version: String,
    /// As it was typed.
    pub command: Vec<String>,
    /// The machine's name.
    pub host: String,
    /// Where tensors lived.
    pub device: String,
    /// The recipe's seed.
    pub seed: u64,
    /// Of the pictures.
    pub data_fingerprint: String,
    /// Steps after which the run was resumed.
    pub resumed_at: Vec<u64>,
}

/// The version of the layout that this code writes.
pub const FORMAT: u32 = 1;

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Creates the folder and writes down what was asked for. A folder that is not empty is refused.
    pub fn create(path: &Path, info: &RunInfo, asked: &str, recipe: &Recipe) -> Result<Self> {
        if path.exists() && !is_empty(path)? {
            let text = format!(
                "{} is not empty; give another folder with --out, or go on with the run in it with --resume",
                path.display()
            );
            return Err(Error::RunDirectory(text));
        }
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))?;
        let run = Self { path: path.into() };
        run.write_info(info)?;
        run.write("recipe.toml", asked.as_bytes())?;
        run.write("recipe.resolved.toml", recipe.to_toml().as_bytes())?;
        Ok(run)
    }

    /// Opens the folder of an earlier run.
    pub fn open(path: &Path) -> Result<(Self, RunInfo)> {
        let file = path.join("run.json");
        let bytes = fs::read(&file).map_err(|e| Error::io("read", &file, e))?;
        let info: RunInfo = serde_json::from_slice(&bytes)
            .map_err(|e| Error::RunDirectory(format!("{} cannot be read: {e}", file.display())))?;
        if info.format != FORMAT {
            let text = format!("{} has format {}, this version reads {FORMAT}", path.display(), info.format);
            return Err(Error::RunDirectory(text));
        }
        Ok((Self { path: path.into() }, info))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of the folder so that it is never half there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(write_atomic(&self.path.join(name), bytes)?)
    }

    /// Writes `run.json`.
    pub fn write_info(&self, info: &RunInfo) -> Result<()> {
        let text = serde_json::to_vec_pretty(info).map_err(|e| Error::RunDirectory(e.to_string()))?;
        self.write("run.json", &text)
    }

    /// Removes the lines of `metrics.jsonl` after `step`: those steps will be taken again.
    pub fn cut_metrics(&self, step: u64) -> Result<()> {
        let path = self.path.join("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let step_of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64();
        let kept = text.lines().filter(|line| step_of(line).is_some_and(|s| s <= step));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        self.write("metrics.jsonl", kept.as_bytes())
    }

    /// Adds pictures that did not decode to `skipped.jsonl`, each once: one object a line with index, path and reason.
    /// `told` are those that this call or an earlier one wrote; `None` before the first.
    pub fn note_skipped(&self, skipped: &[Skipped], told: &mut Option<BTreeSet<usize>>) -> Result<()> {
        if skipped.is_empty() {
            return Ok(());
        }
        let path = self.path.join("skipped.jsonl");
        let told = told.get_or_insert_with(|| {
            let known = fs::read_to_string(&path).unwrap_or_default();
            known.lines().filter_map(|line| Some(serde_json::from_str::<Skipped>(line).ok()?.index)).collect()
        });
        let mut text = String::new();
        for picture in skipped.iter().filter(|picture| told.insert(picture.index)) {
            text += &serde_json::to_string(picture).map_err(|e| Error::RunDirectory(e.to_string()))?;
            text.push('\n');
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| Error::io("write", &path, e))
    }

    /// Commits a checkpoint of `step`, checks it, and only then removes all but the newest `keep`.
    pub fn save(&self, step: u64, files: &[(&str, Vec<u8>)], keep: usize) -> Result<PathBuf> {
        let name = format!("step-{step:08}");
        let parent = self.path.join("checkpoints");
        let folder = commit_folder(&parent, &name, files)?;
        read_folder(&folder)?;
        write_atomic(&parent.join("latest"), name.as_bytes())?;
        for old in checkpoint_folders(&self.path)?.iter().skip(keep.max(2)) {
            fs::remove_dir_all(old).map_err(|e| Error::io("remove", old, e))?;
        }
        Ok(folder)
    }
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(path).map_err(|e| Error::io("read", path, e))?;
    Ok(entries.next().is_none())
}
