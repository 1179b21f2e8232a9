//! The archive that checks and measures equimod on a machine with a card, which needs neither Rust nor a network.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::{COMMAND, PACKAGES, environment, folder};
use crate::programs::{self, Program};
use crate::steps::workspace;

/// The folder in the archive.
const NAME: &str = "equimod-gpu-kit";

/// Largest archive in bytes.
const LARGEST: u64 = 60_000_000;

/// Test programs of the core crate in the archive; cargo names the one of the library after the crate.
const TESTS: [&str; 4] = ["equimod_core", "golden_networks", "golden_trajectory", "devices"];
const TARGETS: &[&str] = &["--lib", "--test", "golden_networks", "--test", "golden_trajectory", "--test", "devices"];

/// Starts of the names of the reference files that the tests read.
const GOLDEN: [&str; 3] = ["net_", "equimod_", "tolerances.json"];

/// Files of `xtask/cuda/kit`, which the archive holds as they are.
const SCRIPTS: [&str; 6] = ["README", "resume.sh", "run.sh", "table.py", "torch_step.py", "training.toml"];

/// Builds the programs with CUDA and writes the archive.
///
/// # Errors
///
/// If something cannot be built or written, a program is missing, or the archive is too large.
pub fn gpu_kit(out: Option<&str>) -> anyhow::Result<()> {
    let environment = environment()?;
    let release = ["--release"];
    let tests = programs::build(&[&["test", "--no-run"], &release[..], PACKAGES, TARGETS].concat(), &environment)?;
    let command = programs::build(&[&["build"], &release[..], PACKAGES, COMMAND].concat(), &environment)?;
    let out = out.map_or_else(|| folder().map(|folder| folder.join(format!("{NAME}.tar.xz"))), |out| Ok(out.into()))?;
    let staging = folder()?.join("kit");
    stage(&staging.join(NAME), &tests, &command)?;
    archive(&staging, &out)?;
    let size = size_below(&out, LARGEST)?;
    eprintln!("  {} ({:.1} MB)", out.display(), size as f64 / 1e6);
    Ok(())
}

/// Lays out the archive's folder.
fn stage(kit: &Path, tests: &[Program], command: &[Program]) -> anyhow::Result<()> {
    if kit.is_dir() {
        fs::remove_dir_all(kit).with_context(|| format!("cannot clear {}", kit.display()))?;
    }
    for part in ["tests", "golden"] {
        fs::create_dir_all(kit.join(part)).with_context(|| format!("cannot make {}", kit.display()))?;
    }
    strip(command, "equimod", &kit.join("equimod"))?;
    count_launches(&kit.join("launches.so"))?;
    for name in TESTS {
        let short = if name == "equimod_core" { "lib" } else { name };
        strip(tests, name, &kit.join("tests").join(short))?;
    }
    let workspace = workspace()?;
    for name in SCRIPTS {
        copy(&workspace.join("xtask/cuda/kit").join(name), &kit.join(name))?;
    }
    for name in golden(&workspace.join("tests/fixtures/golden"))? {
        copy(&workspace.join("tests/fixtures/golden").join(&name), &kit.join("golden").join(&name))?;
    }
    Ok(())
}

/// Names of the reference files that the tests read.
fn golden(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<Vec<String>>>()?;
    Ok(names.into_iter().filter(|name| GOLDEN.iter().any(|start| name.starts_with(start))).collect())
}

/// Compiles the library that counts a program's launches.
///
/// # Errors
///
/// If gcc does not start, or refuses the source.
pub fn count_launches(to: &Path) -> anyhow::Result<()> {
    let source = workspace()?.join("xtask/cuda/kit/launches.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(to).arg(source).arg("-ldl");
    ensure!(gcc.status().context("cannot start gcc")?.success(), "gcc cannot compile launches.c");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Writes the program with this name, without its symbols.
fn strip(built: &[Program], name: &str, to: &Path) -> anyhow::Result<()> {
    let mut strip = Command::new("strip");
    let status = strip.arg("-o").arg(to).arg(programs::find(built, name)?).status();
    ensure!(
        status.context("cannot start strip; install binutils")?.success(),
        "strip cannot write {}, for the reason above",
        to.display()
    );
    Ok(())
}

/// Writes the archive: the same bytes for the same files.
fn archive(staging: &Path, out: &Path) -> anyhow::Result<()> {
    eprintln!("» {}", out.display());
    let advice = "install GNU tar and xz (the package xz-utils or xz)";
    let xz = Command::new("xz").arg("--version").output();
    ensure!(xz.is_ok_and(|xz| xz.status.success()), "xz does not start; {advice}");
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut tar = Command::new("tar");
    // The programs share most of their code: a dictionary as large as several of them finds it again.
    tar.args(["--create", "--use-compress-program", "xz --lzma2=preset=2,dict=256MiB"]);
    tar.args(["--sort", "name", "--mtime", "@0"]);
    tar.args(["--owner", "0", "--group", "0", "--numeric-owner", "--file"]).arg(out);
    tar.arg("--directory").arg(staging).arg(NAME);
    let status = tar.status().with_context(|| format!("cannot start tar; {advice}"))?;
    ensure!(status.success(), "tar cannot write {}, for the reason above", out.display());
    Ok(())
}

/// The size of a file in bytes, which has to be below a limit.
fn size_below(file: &Path, limit: u64) -> anyhow::Result<u64> {
    let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    if size >= limit {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let (name, size, limit) = (file.display(), megabytes(size), megabytes(limit));
        bail!("{name} has {size:.1} MB, and should have less than {limit:.0}; leave out a test program or its files");
    }
    Ok(size)
}

#[cfg(test)]
mod tests;
