//! Plans of cuDNN itself for cards that are not here.

use std::env::join_paths;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::toolkit::{refusing_driver, toolkit};
use super::{Environment, PACKAGES, PROFILE, folder};
use crate::programs;
use crate::steps::{took, workspace};

/// The test, among those of `equimod-core`.
const TEST: &str = "backend::cuda::convolution::cudnn::tests::cudnn_fuses_the_convolutions_of_a_resnet50_on_real_cards";

/// Tests that cuDNN fuses the convolutions that it is expected to fuse. It compiles them for the cards; nothing runs.
///
/// # Errors
///
/// If the driver cannot be compiled, or the test fails or is not there.
pub fn check(environment: &Environment) -> anyhow::Result<()> {
    let (home, folder) = (toolkit()?, folder()?.join("planner"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let source = workspace()?.join("xtask/cuda/planner/driver.c");
    let source = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    refusing_driver(&home, &source, &folder.join("libcuda.so.1"))?;
    let tests = [&["test", "--no-run", "--profile", PROFILE], PACKAGES, &["--lib"]].concat();
    let tests = programs::build(&tests, environment)?;
    eprintln!("» plans of cuDNN for cards that are not here");
    let start = Instant::now();
    let mut test = Command::new(programs::find(&tests, "equimod_core")?);
    test.args(["--ignored", "--exact", TEST]).env("LD_LIBRARY_PATH", join_paths([folder, home.join("lib64")])?);
    let output = test.output().context("cannot start the tests of equimod-core")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && said.contains("1 passed"), "cuDNN does not plan as expected:\n{said}");
    took("plans of cuDNN", start.elapsed());
    Ok(())
}
