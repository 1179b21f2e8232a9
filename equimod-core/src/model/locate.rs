//! Location of the weights of a MODEL.

use std::fs;
use std::path::{Path, PathBuf};

use super::MODEL_FILE;
use super::folder::CONFIG_FILE;
use crate::{Error, Result, checkpoint};

/// Folder of a run with its checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// Remedy for a path that is no MODEL.
const WHAT: &str = "give a run directory, a checkpoint, an export or a .safetensors file";

/// A file of weights with its description.
pub(super) struct Located {
    /// The file.
    pub file: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Text of the `config.json` next to the file, if it describes the file.
    pub config: Option<String>,
    /// Skipped checkpoints, each with the reason.
    pub skipped: Vec<String>,
}

impl Located {
    fn of_checkpoint(file: PathBuf, bytes: Vec<u8>, skipped: Vec<String>) -> Self {
        Self { file, bytes, config: None, skipped }
    }
}

/// Finds and reads the weights: a file itself, the backbone of an export, the file `name` of a checkpoint, or that of a
/// run's newest valid checkpoint.
pub(super) fn locate(path: &Path, name: &str) -> Result<Located> {
    check_location(path)?;
    let named = named_checkpoint(path);
    let path = named.as_deref().unwrap_or(path);
    if path.is_file() {
        return of_file(path);
    }
    if path.join(checkpoint::MANIFEST).exists() {
        return Ok(Located::of_checkpoint(path.join(name), file_of(path, name)?, Vec::new()));
    }
    match path.join(name) {
        file if file.is_file() => of_file(&file),
        _ => newest(path, name),
    }
}

/// The checkpoint that a file of its name stands for, such as `checkpoints/best`.
fn named_checkpoint(path: &Path) -> Option<PathBuf> {
    if !path.is_file() || !path.parent()?.ends_with(CHECKPOINTS) {
        return None;
    }
    let named = path.with_file_name(fs::read_to_string(path).ok()?.trim());
    Some(named).filter(|named| named.join(checkpoint::MANIFEST).is_file())
}

/// Checks that a path may be a MODEL, before it is opened; a web address or a damaged file is found later.
///
/// # Errors
///
/// If there is nothing at the path, if it is a folder of runs or one without weights, or a file of a run other than its
/// weights.
pub fn check_location(path: &Path) -> Result<()> {
    if !path.exists() {
        return Err(Error::checkpoint(path, format!("there is no such file or folder; {WHAT}")));
    }
    let is_weights = path.extension().is_some_and(|extension| extension == "safetensors") || is_of_pytorch(path);
    let run = path.parent().filter(|folder| path.is_file() && !is_weights && folder.join(CHECKPOINTS).is_dir());
    if let Some(run) = run {
        return Err(Error::checkpoint(path, format!("it is a file of a run; give the run, {}", run.display())));
    }
    let holds_weights = path.join(MODEL_FILE).is_file() || path.join(CHECKPOINTS).is_dir();
    match runs_in(path).as_slice() {
        [first, others @ ..] if !holds_weights => {
            let (first, others) = (first.display(), others.len());
            let such = if others == 0 { String::new() } else { format!("one of its {} runs, e.g. ", others + 1) };
            Err(Error::checkpoint(path, format!("it is a folder of runs; give {such}{first}")))
        }
        [] if path.is_dir() && !holds_weights && !path.join(checkpoint::MANIFEST).is_file() => no_weights(path),
        _ => Ok(()),
    }
}

/// Error of a folder without weights of equimod.
fn no_weights(folder: &Path) -> Result<()> {
    match files_of_pytorch(folder).first() {
        Some(first) => {
            let file = first.display();
            let text = format!("it holds no weights of equimod, but files of PyTorch; run `equimod import {file}`");
            Err(Error::checkpoint(folder, text))
        }
        None if folder.ends_with(CHECKPOINTS) && fs::read_dir(folder).is_ok_and(|entries| entries.count() > 0) => {
            let text = "it is the folder of the checkpoints of a run; give the run, or one of them";
            Err(Error::checkpoint(folder, text))
        }
        None => Err(Error::checkpoint(folder, format!("it holds no checkpoints; {WHAT}"))),
    }
}

/// Folders directly in a folder that have checkpoints, by name.
fn runs_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut runs: Vec<PathBuf> = entries.filter(|path| path.join(CHECKPOINTS).is_dir()).collect();
    runs.sort();
    runs
}

/// Reads a file. The `config.json` next to it applies if the file has the name that exports use.
fn of_file(path: &Path) -> Result<Located> {
    let config = path.with_file_name(CONFIG_FILE);
    let described = path.file_name().is_some_and(|name| name == MODEL_FILE) && config.is_file();
    let read = || fs::read_to_string(&config).map_err(|e| Error::io("read", &config, e));
    Ok(Located {
        file: path.into(),
        bytes: checkpoint::read_file(path)?,
        config: described.then(read).transpose()?,
        skipped: Vec::new(),
    })
}

fn file_of(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let missing = || Error::checkpoint(folder, format!("it holds no {name}; use another checkpoint"));
    checkpoint::read_folder(folder)?.remove(name).ok_or_else(missing)
}

/// Folders `checkpoints/step-…` of a run, newest first.
///
/// # Errors
///
/// If the run has no checkpoints, or a folder cannot be read.
pub fn checkpoint_folders(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(CHECKPOINTS);
    if !folder.is_dir() {
        no_weights(run)?;
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))? {
        let path = entry.map_err(|e| Error::io("read", &folder, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("step-") {
            found.push(path);
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// Name endings of PyTorch files.
const OF_PYTORCH: [&str; 5] = [".bin", ".pth", ".pt", ".ckpt", ".pth.tar"];

/// PyTorch files in a folder, sorted by name.
pub fn files_of_pytorch(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = entries.filter(|path| is_of_pytorch(path) && path.is_file()).collect();
    files.sort();
    files
}

/// Whether a file has a name of PyTorch.
fn is_of_pytorch(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    OF_PYTORCH.iter().any(|end| name.ends_with(end))
}

/// The newest valid checkpoint of a run.
fn newest(run: &Path, name: &str) -> Result<Located> {
    let mut skipped = Vec::new();
    for folder in checkpoint_folders(run)? {
        match file_of(&folder, name) {
            Ok(bytes) => return Ok(Located::of_checkpoint(folder.join(name), bytes, skipped)),
            Err(error) => skipped.push(error.to_string()),
        }
    }
    let reasons = if skipped.is_empty() { String::new() } else { format!(": {}", skipped.join("; ")) };
    Err(Error::checkpoint(run, format!("no checkpoint in it is complete{reasons}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_holds_no_weights_says_what_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for run in ["out/a", "out/b"] {
            fs::create_dir_all(path(run).join("checkpoints")).unwrap();
        }
        for file in ["out/a/report.html", "out/a/best.pth", "out/a/x.safetensors", "page.html"] {
            fs::write(path(file), "").unwrap();
        }
        for name in ["out/a", "out/a/best.pth", "out/a/x.safetensors", "page.html"] {
            check_location(&path(name)).unwrap();
        }
        for (name, reason) in [
            ("none", "there is no such file or folder"),
            ("out", "a folder of runs"),
            ("out/a/report.html", "a file of a run"),
            ("out/a/checkpoints", "it holds no checkpoints; give a run directory"),
        ] {
            let error = check_location(&path(name)).unwrap_err().to_string();
            let run = path("out/a").display().to_string();
            assert!(error.contains(reason) && error.contains(&run) == name.starts_with("out"), "{error}");
        }
        assert!(check_location(&path("out")).unwrap_err().to_string().contains("one of its 2 runs"));
    }
}
