//! Subcommands, one per file.

mod bench;
mod completions;
mod data;
mod doctor;
mod embed;
mod eval;
mod export;
mod find_rate;
mod import;
mod init;
mod inspect;
mod list;
mod man;
mod pretrain;
mod publish;
mod replay;
mod report;
mod runs;
mod study;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::process::exit::Usage;

/// Runs the subcommand.
pub fn run(arguments: Cli) -> anyhow::Result<ExitCode> {
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .map_err(|e| Usage(format!("{threads} threads cannot be started: {e}")))?;
    }
    let verbose = arguments.verbose;
    match arguments.command {
        Command::Pretrain(arguments) => pretrain::run(&arguments, verbose),
        Command::Init(arguments) => init::run(&arguments),
        Command::FindRate(arguments) => find_rate::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
        Command::Study(arguments) => study::run(&arguments, verbose),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Embed(arguments) => embed::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::Data(arguments) => data::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Man { command } => man::run(&command),
        Command::Completions { shell } => completions::run(shell),
    }
}
