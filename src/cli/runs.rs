//! Arguments of `equimod report` and `equimod runs`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Run directories to compare; the page of one has all its evaluations.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// HTML page to write, outside run directories; an older one is replaced.
    #[arg(long, default_value = "report.html", value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `runs`.
#[derive(Args, Debug)]
pub struct Runs {
    /// Folder that is searched for runs, with all folders in it.
    #[arg(default_value = "out", value_name = "DIR")]
    pub folder: PathBuf,
    /// Column to sort by: run, status, started, time, epoch, step, loss, probe, eval, or a setting in which the runs
    /// differ, e.g. schedule.learning_rate. Runs without a value come last.
    #[arg(long, default_value = "started", value_name = "COLUMN")]
    pub sort: String,
    /// Sort from the largest to the smallest, or from the newest to the oldest.
    #[arg(long, alias = "desc")]
    pub descending: bool,
    /// Print as JSON, with whole values and with times in seconds.
    #[arg(long)]
    pub json: bool,
}
