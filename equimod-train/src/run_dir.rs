//! Run directory: recipe, metadata, logs and checkpoints.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equimod_core::checkpoint::{SAVING, commit_folder, read_folder, write_atomic};
use equimod_core::model::checkpoint_folders;
use equimod_data::Skipped;
use serde::{Deserialize, Serialize};

use crate::metrics::cut;
use crate::probe::Best;
use crate::recipe::Recipe;
use crate::{Error, Result};

/// Status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Training, or killed.
    Running,
    /// All epochs were trained.
    Finished,
    /// Stopped by a signal, after a checkpoint.
    Interrupted,
    /// Stopped because loss or gradient was not finite.
    Diverged,
    /// Stopped by an error.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Diverged => "diverged",
            Self::Failed => "failed",
        })
    }
}

/// Contents of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of the directory's layout.
    pub format: u32,
    /// Status of the run.
    pub status: Status,
    /// Version of the program.
    pub version: String,
    /// Command line.
    pub command: Vec<String>,
    /// Host name.
    pub host: String,
    /// Device of the tensors.
    pub device: String,
    /// Working directory of the first start, to which relative paths of the recipe belong; empty if it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// Seed of the recipe.
    pub seed: u64,
    /// Hash of the training images.
    pub data_fingerprint: String,
    /// Steps after which the run was resumed.
    pub resumed_at: Vec<u64>,
    /// Initial weights, if they were loaded from another model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// Training time in seconds, over all calls; one that was killed counts up to its last metrics once it is resumed.
    #[serde(default)]
    pub seconds: f64,
    /// Peak memory of these calls, in bytes.
    #[serde(default)]
    pub peak_memory: u64,
    /// Time of the first start: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Time of the last end that was no kill: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Git repository of the working directory at the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
}

/// State of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// Hash of the commit that is checked out.
    pub commit: String,
    /// Branch, if one is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether files under version control have changes that are not committed.
    pub dirty: bool,
}

impl fmt::Display for GitState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.commit.get(..12).unwrap_or(&self.commit))?;
        self.branch.iter().try_for_each(|branch| write!(f, " on {branch}"))?;
        f.write_str(if self.dirty { ", with uncommitted changes" } else { "" })
    }
}

/// Model from which initial weights were loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// MODEL argument.
    pub model: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Images that it was trained on, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<TrainingImages>,
    /// Model that its own training started from, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Box<Origin>>,
}

/// Images that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingImages {
    /// Data source.
    pub source: String,
    /// Fingerprint.
    pub fingerprint: String,
}

impl Default for RunInfo {
    /// Contents for a new run.
    fn default() -> Self {
        Self {
            format: FORMAT,
            status: Status::Running,
            version: String::new(),
            command: Vec::new(),
            host: String::new(),
            device: String::new(),
            directory: String::new(),
            seed: 0,
            data_fingerprint: String::new(),
            resumed_at: Vec::new(),
            from: None,
            seconds: 0.0,
            peak_memory: 0,
            started: None,
            ended: None,
            git: None,
        }
    }
}

impl RunInfo {
    /// Reads `run.json` in the folder `run`.
    ///
    /// # Errors
    ///
    /// If the file is missing or damaged, or has another format.
    pub fn read(run: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let file = run.join(INFO);
        let bytes = fs::read(&file).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::RunDirectory(no_run(run)),
            _ => Error::io("read", &file, e),
        })?;
        let unreadable = |e| Error::RunDirectory(format!("{} cannot be read: {e}", file.display()));
        // The version is checked first, because other versions may have other fields.
        let Format { format } = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if format != FORMAT {
            let (run, other) = (run.display(), if format > FORMAT { "a newer" } else { "an older" });
            let text = format!(
                "{run} was written in format {format}, this version reads {FORMAT}; use {other} version of equimod"
            );
            return Err(Error::RunDirectory(text));
        }
        serde_json::from_slice(&bytes).map_err(unreadable)
    }
}

/// Message on a path that is not a run directory, with what to give.
fn no_run(path: &Path) -> String {
    let name = path.display();
    if !path.exists() {
        return format!("{name}: there is no such file or folder; give a run directory");
    }
    if let Some(run) = path.ancestors().skip(1).take(3).find(|folder| is_run(folder)) {
        return format!("{name} is a part of a run; give the run, {}", run.display());
    }
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    match entries.filter(|folder| is_run(folder)).min() {
        Some(run) => format!("{name} is a folder of runs; give one of them, e.g. {}", run.display()),
        None => format!("{name} is not a run directory: it has no run.json"),
    }
}

/// Version of the layout that this code writes.
pub const FORMAT: u32 = 1;
/// File name of the resolved recipe.
pub const RESOLVED: &str = "recipe.resolved.toml";
/// File name of a run's information.
const INFO: &str = "run.json";

/// Whether a folder is a run directory.
pub fn is_run(folder: &Path) -> bool {
    folder.join(INFO).is_file()
}

/// Folder of a run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Held as long as a process trains in the folder.
    _lock: Arc<Option<File>>,
}

impl RunDirectory {
    /// Creates the folder and writes the recipe.
    ///
    /// # Errors
    ///
    /// If the folder is not empty, or cannot be written.
    pub fn create(path: &Path, info: &RunInfo, asked: &str, recipe: &Recipe) -> Result<Self> {
        if path.exists() && !is_empty(path)? {
            let text = format!(
                "{} is not empty; give another folder with --out, or go on with the run in it with --resume",
                path.display()
            );
            return Err(Error::RunDirectory(text));
        }
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))?;
        let run = Self { path: path.into(), _lock: lock(path)? };
        run.write_recipe(asked, recipe)?;
        // Written last: a folder with this file is a run that can be resumed.
        run.write_info(info)?;
        Ok(run)
    }

    /// Opens the folder of an earlier run to resume it.
    ///
    /// # Errors
    ///
    /// If the folder is not a run, or another process trains in it.
    pub fn open(path: &Path) -> Result<(Self, RunInfo)> {
        let info = RunInfo::read(path)?;
        Ok((Self { path: path.into(), _lock: lock(path)? }, info))
    }

    /// The folder of a run that the first process of its group created or opened, for another process of the group,
    /// which only reads.
    pub fn of_first(path: &Path) -> Self {
        Self { path: path.into(), _lock: Arc::new(None) }
    }

    /// Writes the recipe as it was given, and the resolved recipe.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn write_recipe(&self, asked: &str, recipe: &Recipe) -> Result<()> {
        self.write("recipe.toml", asked.as_bytes())?;
        self.write(RESOLVED, recipe.to_toml().as_bytes())
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of the folder atomically.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(write_atomic(&self.path.join(name), bytes)?)
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn write_info(&self, info: &RunInfo) -> Result<()> {
        let text = serde_json::to_vec_pretty(info).map_err(|e| Error::RunDirectory(e.to_string()))?;
        self.write(INFO, &text)
    }

    /// Removes the lines of `metrics.jsonl` after `step`, because these steps will be repeated.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn cut_metrics(&self, step: u64) -> Result<()> {
        cut(&self.path.join("metrics.jsonl"), step)
    }

    /// Adds images that did not decode to `skipped.jsonl`, each once: one object a line with index, path and reason.
    /// `listed` holds the indices that this call or an earlier one wrote; `None` before the first.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn note_skipped(&self, skipped: &[Skipped], listed: &mut Option<BTreeSet<usize>>) -> Result<()> {
        if skipped.is_empty() {
            return Ok(());
        }
        let path = self.path.join("skipped.jsonl");
        let listed = listed.get_or_insert_with(|| {
            let known = fs::read_to_string(&path).unwrap_or_default();
            known.lines().filter_map(|line| Some(serde_json::from_str::<Skipped>(line).ok()?.index)).collect()
        });
        let mut text = String::new();
        for image in skipped.iter().filter(|image| listed.insert(image.index)) {
            text += &serde_json::to_string(image).map_err(|e| Error::RunDirectory(e.to_string()))?;
            text.push('\n');
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| Error::io("write", &path, e))
    }

    /// Name of the checkpoint of a step.
    pub(crate) fn name_of(step: u64) -> String {
        format!("step-{step:08}")
    }

    fn parent(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Folders of the checkpoints, newest first.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn checkpoints(&self) -> Result<Vec<PathBuf>> {
        if self.parent().is_dir() { Ok(checkpoint_folders(&self.path)?) } else { Ok(Vec::new()) }
    }

    /// Writes a checkpoint of `step` and verifies it.
    pub(crate) fn save(&self, step: u64, files: &[(&str, Vec<u8>)]) -> Result<()> {
        let name = Self::name_of(step);
        read_folder(&commit_folder(&self.parent(), &name, files)?)?;
        Ok(write_atomic(&self.parent().join("latest"), name.as_bytes())?)
    }

    /// Lets `best` name the checkpoint of the best probe result.
    pub(crate) fn point_to_best(&self, best: Option<&Best>) -> Result<()> {
        let Some(best) = best else { return Ok(()) };
        Ok(write_atomic(&self.parent().join("best"), Self::name_of(best.step).as_bytes())?)
    }

    /// Removes all but the newest `keep` checkpoints and those of steps that are worth it. A checkpoint that is being
    /// removed has another name, so that nobody takes a part of it for the whole.
    pub(crate) fn prune(&self, keep: usize, worth: impl Fn(u64) -> bool) -> Result<()> {
        for old in self.checkpoints()?.into_iter().skip(keep.max(2)) {
            let name = old.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.trim_start_matches("step-").parse().is_ok_and(&worth) {
                continue;
            }
            let gone = self.parent().join(format!("{REMOVING}{name}"));
            fs::rename(&old, &gone)
                .and_then(|()| fs::remove_dir_all(&gone))
                .map_err(|e| Error::io("remove", old, e))?;
        }
        Ok(())
    }

    /// Removes incomplete checkpoints that a crash left.
    pub(crate) fn clean_up(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.parent()) else { return Ok(()) };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if [SAVING, REMOVING].iter().any(|prefix| name.starts_with(prefix)) {
                fs::remove_dir_all(&path).map_err(|e| Error::io("remove", path, e))?;
            }
        }
        Ok(())
    }
}

/// Prefix of the names of checkpoints that are being removed.
const REMOVING: &str = ".removing-";

/// Keeps others from training in the folder, where its file system knows locks; the system takes them back from whoever
/// dies.
fn lock(path: &Path) -> Result<Arc<Option<File>>> {
    let file = path.join(".lock");
    let open = || fs::OpenOptions::new().create(true).append(true).open(&file);
    let lock = open().map_err(|e| Error::io("write", &file, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(Arc::new(Some(lock))),
        Err(TryLockError::Error(_)) => Ok(Arc::new(None)),
        Err(TryLockError::WouldBlock) => {
            let text = format!("another process is training in {}; wait for it, or stop it", path.display());
            Err(Error::RunDirectory(text))
        }
    }
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(path).map_err(|e| Error::io("read", path, e))?;
    Ok(entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_run_says_what_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("out/a/checkpoints/step-1")).unwrap();
        fs::create_dir_all(path("images")).unwrap();
        fs::write(path("out/a/run.json"), OLD).unwrap();
        fs::write(path("out/a/report.html"), "").unwrap();
        for (name, reason) in [
            ("none", "no such file or folder"),
            ("images", "is not a run directory"),
            ("out", "is a folder of runs"),
            ("out/a/report.html", "is a part of a run"),
            ("out/a/checkpoints/step-1", "is a part of a run"),
        ] {
            let error = RunInfo::read(&path(name)).unwrap_err().to_string();
            let gives_the_run = error.ends_with(&path("out/a").display().to_string());
            assert!(error.contains(reason) && gives_the_run == name.starts_with("out"), "{error}");
        }
    }

    /// As versions wrote it that recorded neither times nor git.
    const OLD: &str = r#"{"format": 1, "status": "finished", "version": "0.1.0", "command": [], "host": "h",
        "device": "cpu", "seed": 0, "data_fingerprint": "f", "resumed_at": []}"#;

    #[test]
    fn old_files_are_read_and_new_ones_read_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), OLD).unwrap();
        let old = RunInfo::read(folder.path()).unwrap();
        assert_eq!((old.status, &old.started, &old.git), (Status::Finished, &None, &None));
        let git = GitState { commit: "0123456789abcdef".into(), branch: Some("main".into()), dirty: true };
        assert_eq!(git.to_string(), "0123456789ab on main, with uncommitted changes");
        let new = RunInfo { started: Some("2026-01-02T03:04:05Z".into()), git: Some(git), ..old };
        fs::write(folder.path().join("run.json"), serde_json::to_vec(&new).unwrap()).unwrap();
        assert_eq!(RunInfo::read(folder.path()).unwrap(), new);
    }
}
