//! `equimod bench`: one file a subcommand.

mod augment;
mod conv;
mod eval;
mod loader;
mod step;

use std::process::ExitCode;

use crate::cli::{Bench, BenchCommand};

/// Measures what was asked for.
pub fn run(arguments: &Bench) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        BenchCommand::Augment(arguments) => augment::run(arguments),
        BenchCommand::Step(arguments) => step::run(arguments),
        BenchCommand::Conv(arguments) => conv::run(arguments),
        BenchCommand::Loader(arguments) => loader::run(arguments),
        BenchCommand::Eval(arguments) => eval::run(arguments),
    }
}

/// The middle of some measurements, 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
