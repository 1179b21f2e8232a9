//! Developer tasks; `cargo xtask check` runs every check of the workspace.
#![allow(clippy::print_stderr)] // A command-line tool.

mod beside;
mod book;
mod cuda;
mod dependencies;
mod fuzz;
mod memory;
mod metal;
mod modules;
mod parallel;
mod programs;
mod steps;

use anyhow::{Context, bail};

use beside::Beside;
use cuda::Download;
use steps::{all, cargo, cargo_in, has_mpi};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => timed(|| check_lints().and_then(|()| check_tests())),
        ["check", "lints"] => timed(check_lints),
        ["check", "tests"] => timed(check_tests),
        ["test"] => test(),
        ["dependencies"] => dependencies::check(),
        ["book"] => book::build(),
        ["book", "links"] => book::preprocess(),
        // mdBook asks whether it may call the preprocessor for an output.
        ["book", "links", "supports", _] => Ok(()),
        ["modules"] => modules::check(),
        ["memory"] => memory::check(),
        ["endurance"] => endurance("200"),
        ["endurance", kills] => endurance(kills),
        ["fuzz"] => fuzz_all(FUZZ_SECONDS),
        ["fuzz", seconds] => fuzz_all(seconds.parse().context("give the seconds for each target as a whole number")?),
        ["cuda-on-cpu", filters @ ..] => cuda::on_cpu(filters),
        ["gpu-kit"] => cuda::gpu_kit(None),
        ["gpu-kit", out] => cuda::gpu_kit(Some(out)),
        ["stand-in"] => cuda::check_stand_in().map(|_| ()),
        ["metal-check"] => metal::check(),
        _ => bail!(
            "usage: cargo xtask check [lints | tests] | test | dependencies | modules | book | memory | endurance [KILLS] | fuzz [SECONDS] | \
             cuda-on-cpu [FILTER…] | stand-in | gpu-kit [OUT] | metal-check"
        ),
    }
}

/// Default time for each fuzz target, in seconds.
const FUZZ_SECONDS: u64 = 10;

/// Runs a part of the check, and prints how long its steps took.
fn timed(part: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let checked = part();
    steps::print_times();
    checked
}

/// Checks what needs no program to run.
fn check_lints() -> anyhow::Result<()> {
    dependencies::check()?;
    eprintln!("» circular dependencies of modules");
    modules::check()?;
    book::check()?;
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--release", all(), "--", "-D", "warnings"])?;
    // The command without the Hub and MNIST.
    cargo(&["clippy", "--release", "--no-default-features", "--", "-D", "warnings"])?;
    let deny = ("RUSTDOCFLAGS", "-D warnings".into());
    cargo_in(&["doc", "--workspace", "--no-deps", "--release", all()], &[deny])
}

/// Runs all tests. What waits for the network or uses one core alone runs beside the other steps.
fn check_tests() -> anyhow::Result<()> {
    let download = if cuda::HAS_STAND_IN { Download::start()? } else { None };
    test()?;
    let memory = memory::start()?;
    download.map_or(Ok(()), Download::finish)?;
    if cuda::HAS_STAND_IN {
        cuda::on_cpu(&[])?;
    } else {
        eprintln!("» CUDA: skipped, because its stand-in needs Linux on x86-64");
    }
    fuzz::build()?;
    // Each fuzz target has a core for itself.
    memory.map_or(Ok(()), Beside::finish)?;
    fuzz::run(FUZZ_SECONDS)
}

fn test() -> anyhow::Result<()> {
    if !has_mpi() {
        eprintln!("» MPI: skipped, because mpicc is not installed");
    }
    cargo(&["test", "--workspace", "--release", all()])
}

fn fuzz_all(seconds: u64) -> anyhow::Result<()> {
    fuzz::build()?;
    fuzz::run(seconds)
}

/// Runs the endurance test with more kills than the default.
fn endurance(kills: &str) -> anyhow::Result<()> {
    let test = ["test", "--release", "-p", "equimod", "--test", "endurance", "killed_again", "--", "--nocapture"];
    cargo_in(&test, &[("EQUIMOD_KILLS", kills.into())])
}
