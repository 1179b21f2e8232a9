//! State of a run, by its files.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::SystemTime;

use equimod_train::run_dir::is_run;
use equimod_train::{RunInfo, Status};

/// The numbers of a run, a line for each step and probe.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The run directory that a MODEL is or, as a checkpoint or one of its files, lies in.
pub fn run_of(model: &Path) -> Option<&Path> {
    // A file of run/checkpoints/step-… has the run three levels above it.
    let within = |run: &&Path| model.starts_with(run.join("checkpoints"));
    model.ancestors().take(4).find(|folder| is_run(folder) && (*folder == model || within(folder)))
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
