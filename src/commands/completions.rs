//! `equimod completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::outputs::console;

/// Prints a shell completion script.
///
/// # Errors
///
/// If stdout cannot be written.
pub fn run(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "equimod", &mut script);
    console::result(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
