//! The command `equimod`.

mod allocator;
mod artifact;
mod card;
mod cli;
mod commands;
mod contact_sheet;
mod device;
mod exit;
mod export;
mod forecast;
mod hub;
#[cfg(feature = "mnist")]
mod mnist;
mod models;
mod noise;
mod output;
mod probe;
mod profile;
mod record;
mod reference;
mod run_files;
mod run_report;
mod scan;
mod signals;
mod sources;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    allocator::keep_memory();
    exit::keep_panics();
    std::panic::catch_unwind(run).unwrap_or_else(|_| exit::of_panic())
}

fn run() -> ExitCode {
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::of_usage(&error),
    };
    let verbose = arguments.verbose;
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => exit::of_error(&error, verbose),
    }
}
