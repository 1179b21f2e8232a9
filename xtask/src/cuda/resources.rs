//! Registers of the kernels: none may spill to memory on the cards of three generations.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::build::files;
use crate::parallel::two_at_a_time;
use crate::steps::{took, workspace};

/// Architectures of A100, H100 and RTX 5090.
const ARCHITECTURES: [&str; 3] = ["80", "90", "120"];

/// Compiles every kernel of the project for cards, and reads nvcc's report.
///
/// # Errors
///
/// If a kernel cannot be compiled, or spills registers.
pub fn check(home: &Path) -> anyhow::Result<()> {
    eprintln!("» registers of the kernels");
    let start = Instant::now();
    let kernels = files(&workspace()?.join("equimod-core/src/backend/cuda/kernels"), &["cu"])?;
    ensure!(!kernels.is_empty(), "there are no kernels");
    two_at_a_time(kernels, |kernel| one(&kernel, home))?;
    took("registers of the kernels", start.elapsed());
    Ok(())
}

fn one(kernel: &Path, home: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(home.join("bin/nvcc"));
    command.args(["-fatbin", "-std=c++17", "-O3", "-Xptxas", "-v", "-o", "/dev/null"]);
    for architecture in ARCHITECTURES {
        command.arg(format!("-gencode=arch=compute_{architecture},code=sm_{architecture}"));
    }
    let output = command.arg(kernel).output().context("cannot start nvcc")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nvcc cannot compile {}:\n{report}", kernel.display());
    let (spills, kernels) = spills(&report);
    ensure!(kernels > 0, "nvcc reports no registers for {}:\n{report}", kernel.display());
    ensure!(spills.is_empty(), "kernels of {} spill registers:\n{}", kernel.display(), spills.join("\n"));
    Ok(())
}

/// Lines of a report that name spills, and the number of kernels in it.
fn spills(report: &str) -> (Vec<&str>, usize) {
    let lines = report.lines().filter(|line| line.contains("bytes spill stores"));
    let spilled = |line: &&str| !(line.contains(" 0 bytes spill stores") && line.contains(" 0 bytes spill loads"));
    (lines.clone().filter(spilled).collect(), lines.count())
}

#[cfg(test)]
mod tests {
    use super::spills;

    #[test]
    fn spills_are_found() {
        let fine = "ptxas info    : Function properties for f\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
        assert_eq!(spills(fine), (Vec::new(), 1));
        let bad = "    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads";
        assert_eq!(spills(&format!("{fine}\n{bad}")), (vec![bad], 2));
        let loads = "    8 bytes stack frame, 0 bytes spill stores, 12 bytes spill loads";
        assert_eq!(spills(loads), (vec![loads], 1));
    }
}
