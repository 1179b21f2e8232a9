//! `equimod bench`: one file a subcommand.

mod augment;

use std::process::ExitCode;

use crate::cli::{Bench, BenchCommand};

/// Measures what was asked for.
pub fn run(arguments: &Bench) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        BenchCommand::Augment { what } => augment::run(what),
    }
}
