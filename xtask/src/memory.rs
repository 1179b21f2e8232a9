//! The kernels' tests on small shapes under Valgrind, which detects reads of uninitialized or foreign memory.
//!
//! Under Valgrind, programs see a processor with AVX2 and without AVX-512.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::beside::Beside;
use crate::programs;
use crate::steps::all;

/// Runs the tests under Valgrind, if it is installed.
///
/// # Errors
///
/// If the tests cannot be built or started, or one of them fails.
pub fn check() -> anyhow::Result<()> {
    let Some(mut command) = command()? else { return Ok(()) };
    ensure!(command.status().context("cannot start valgrind")?.success(), "tests under valgrind failed");
    Ok(())
}

/// Builds the tests, and starts them beside the next steps, if Valgrind is installed.
///
/// # Errors
///
/// If the tests cannot be built or started.
pub fn start() -> anyhow::Result<Option<Beside>> {
    command()?.map(|mut command| Beside::start("valgrind", &mut command)).transpose()
}

/// The command that runs the tests under Valgrind, if it is installed.
fn command() -> anyhow::Result<Option<Command>> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("» memory: skipped, because valgrind is not installed");
        return Ok(None);
    }
    // Alone, the crate would be built with other features of its dependencies than for the other tests.
    let tests = programs::build(&["test", "--no-run", "--workspace", "--lib", "--release", all()], &[])?;
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=9"]).arg(programs::find(&tests, "equimod_core")?);
    command.args(["backend::", "--test-threads", "1"]);
    // Larger tests, and other values, run the same code.
    let skipped = ["any_number_of_threads", "shapes_of_a_resnet", "special_values"];
    command.args(skipped.iter().flat_map(|name| ["--skip", name]));
    command.current_dir("equimod-core");
    Ok(Some(command))
}
