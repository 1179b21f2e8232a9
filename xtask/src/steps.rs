//! Steps of a check: commands of cargo.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

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
    eprintln!("  {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The folder of the workspace, in which `cargo xtask` starts.
///
/// # Errors
///
/// If the current folder cannot be found.
pub fn workspace() -> anyhow::Result<PathBuf> {
    std::env::current_dir().context("cannot find the current folder; start cargo xtask in the workspace")
}
