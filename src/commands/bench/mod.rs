//! `equimod bench`, with one file per subcommand.

mod augment;
mod conv;
mod eval;
mod exchange;
mod loader;
mod ranks;
mod step;

use std::process::ExitCode;

use crate::cli::{Bench, BenchCommand};

/// Runs a benchmark.
///
/// # Errors
///
/// If the benchmark fails.
pub fn run(arguments: &Bench) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        BenchCommand::Augment(arguments) => augment::run(arguments),
        BenchCommand::Step(arguments) => step::run(arguments),
        BenchCommand::Exchange(arguments) => exchange::run(arguments),
        BenchCommand::Conv(arguments) => conv::run(arguments),
        BenchCommand::Loader(arguments) => loader::run(arguments),
        BenchCommand::Eval(arguments) => eval::run(arguments),
    }
}

/// Median of some values, or 0 if there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
