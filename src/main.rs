//! The command `equimod`.

mod artifact;
mod card;
mod choice;
mod cli;
mod commands;
mod export;
mod hub;
mod inputs;
mod outputs;
mod process;
mod reference;
mod run;

use std::process::ExitCode;

use clap::Parser;

use process::{allocator, exit};

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
