//! The fuzz targets. Coverage comes without a sanitizer, which needs nightly Rust.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::parallel::two_at_a_time;
use crate::programs;
use crate::steps::{all, cargo, took};

/// Folders of fuzz targets.
const FOLDERS: [&str; 2] = ["equimod-core/fuzz", "equimod-data/fuzz"];

/// Builds all fuzz targets, and writes the valid inputs from which they start.
///
/// # Errors
///
/// If something cannot be built or written.
pub fn build() -> anyhow::Result<()> {
    if !Command::new(env!("CARGO")).args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
        cargo(&["install", "cargo-fuzz", "--debug", "--locked", "--version", "0.13.2"])?;
    }
    // Alone, the crate would be built with other features of its dependencies than for the tests.
    let seeds = programs::build(&["build", "--workspace", "--release", all(), "--example", "fuzz_seeds"], &[])?;
    let status = Command::new(programs::find(&seeds, "fuzz_seeds")?).status();
    ensure!(status.context("cannot start fuzz_seeds")?.success(), "the inputs of the fuzz targets cannot be written");
    FOLDERS.into_iter().try_for_each(|folder| cargo(&fuzz("build", folder)))
}

/// Runs every target for some seconds, two at a time.
///
/// # Errors
///
/// If a target cannot be run, or fails.
pub fn run(seconds: u64) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for folder in FOLDERS {
        let listed = Command::new(env!("CARGO")).args(["fuzz", "list", "--fuzz-dir", folder]).output()?;
        ensure!(listed.status.success(), "cargo fuzz cannot list the targets in {folder}");
        targets.extend(String::from_utf8(listed.stdout)?.lines().map(|target| (folder, target.to_owned())));
    }
    let start = Instant::now();
    two_at_a_time(targets, |(folder, target)| run_one(folder, &target, seconds))?;
    took("fuzz", start.elapsed());
    Ok(())
}

fn run_one(folder: &str, target: &str, seconds: u64) -> anyhow::Result<()> {
    eprintln!("» fuzz {target}, {seconds} s");
    let limit = format!("-max_total_time={seconds}");
    let flags = [target, "--", &limit, "-rss_limit_mb=4096", "-timeout=20"];
    let output = Command::new(env!("CARGO")).args(fuzz("run", folder)).args(flags).output()?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = log.lines().rev().take(60).collect();
        bail!("fuzz target {target} failed:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// Arguments of cargo; both folders share what they build.
fn fuzz<'a>(action: &'a str, folder: &'a str) -> [&'a str; 8] {
    ["fuzz", action, "--sanitizer", "none", "--target-dir", "target/fuzz", "--fuzz-dir", folder]
}
