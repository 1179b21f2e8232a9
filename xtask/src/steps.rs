//! Steps of a check: commands of cargo.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Features of the default build and MNIST, and MPI where its compiler is installed. All steps have the same, so that
/// nothing is built twice.
pub fn all() -> &'static str {
    static ALL: OnceLock<&str> = OnceLock::new();
    ALL.get_or_init(|| if has_mpi() { "--features=mnist,mpi" } else { "--features=mnist" })
}

/// Whether programs can be built with MPI.
pub fn has_mpi() -> bool {
    Command::new("mpicc").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Runs cargo with these arguments.
///
/// # Errors
///
/// If cargo fails.
pub fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    cargo_in(arguments, &[])
}

/// Runs cargo with these arguments and variables.
///
/// # Errors
///
/// If cargo fails.
pub fn cargo_in(arguments: &[&str], environment: &[(&str, OsString)]) -> anyhow::Result<()> {
    eprintln!("» cargo {}", arguments.join(" "));
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    let status = command.status().with_context(|| format!("cannot start cargo {}", arguments[0]))?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    took(&format!("cargo {}", arguments.join(" ")), start.elapsed());
    Ok(())
}

/// Names and durations of the steps so far.
static TIMES: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Prints how long a step took, and keeps it for [`print_times`].
pub fn took(step: &str, time: Duration) {
    eprintln!("  {:.0} s", time.as_secs_f64());
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((step.to_owned(), time));
}

/// Shortest time that [`print_times`] prints.
const WORTH_PRINTING: Duration = Duration::from_secs(10);

/// Prints the steps that took long. Steps in the background overlap with others.
pub fn print_times() {
    eprintln!("» times");
    let times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    for (step, time) in times.iter().filter(|(_, time)| *time >= WORTH_PRINTING) {
        eprintln!("  {:5.0} s  {}", time.as_secs_f64(), step.chars().take(100).collect::<String>());
    }
}

/// The folder of the workspace, in which `cargo xtask` starts.
///
/// # Errors
///
/// If the current folder cannot be found.
pub fn workspace() -> anyhow::Result<PathBuf> {
    std::env::current_dir().context("cannot find the current folder; start cargo xtask in the workspace")
}
