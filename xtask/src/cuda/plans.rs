//! Plans of cuDNN itself for cards that are not here.

use std::env::join_paths;
use std::fs;

use anyhow::Context;

use super::{Environment, PACKAGES, PROFILE, folder};
use crate::cuda::toolkit::{refusing_driver, toolkit};
use crate::steps::{cargo_in, workspace};

/// Tests that cuDNN fuses the convolutions that it is expected to fuse. It compiles them for the cards; nothing runs.
///
/// # Errors
///
/// If the driver cannot be compiled, or the test fails.
pub fn check(environment: &Environment) -> anyhow::Result<()> {
    let (home, folder) = (toolkit()?, folder()?.join("planner"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let source = workspace()?.join("xtask/cuda/planner/driver.c");
    let source = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    refusing_driver(&home, &source, &folder.join("libcuda.so.1"))?;
    let mut environment = environment.clone();
    environment.push(("LD_LIBRARY_PATH", join_paths([folder, home.join("lib64")])?));
    environment.push(("EQUIMOD_CUDNN_PLANS", "1".into()));
    let test = ["--lib", "--", "cudnn_fuses_the_convolutions"];
    cargo_in(&[&["test", "--profile", PROFILE], PACKAGES, &test].concat(), &environment)
}
