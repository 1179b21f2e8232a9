//! CUDA without a card: the toolkit comes from Python's package index, and tests run on a stand-in for CUDA on the CPU.
//!
//! nvcc compiles the kernels as for a card, so that its errors are found and its PTX says what each kernel takes. g++
//! compiles the same sources again for the stand-in, which the tests load in place of the driver and its libraries.

mod build;
mod kernels;
mod self_test;
mod stand_in;
mod toolkit;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;

pub use stand_in::stand_in;
pub use toolkit::toolkit;

/// Variables of a process.
pub type Environment = Vec<(&'static str, OsString)>;

/// Compute capability of the PTX, which the driver of every later card compiles for itself.
const CAPABILITY: &str = "80";

/// The profile of builds with CUDA.
const PROFILE: &str = "stand-in";

/// A `cargo test` command that runs on the stand-in.
struct Test {
    arguments: &'static [&'static str],
    /// Names of its tests, or parts of them; all tests if there are none.
    filters: &'static [&'static str],
    /// Variables with which it runs.
    environment: &'static [(&'static str, &'static str)],
}

/// Arguments for an integration test of the core crate.
macro_rules! core_test {
    ($name:literal, $filters:expr, $environment:expr) => {
        Test {
            arguments: &["-p", "equimod-core", "--features", "cuda,cudnn", "--test", $name],
            filters: &$filters,
            environment: &$environment,
        }
    };
}

/// Tests of the backend, the golden tests in f32 on the device, every objective and module, and budgets of a step.
const TESTS: [Test; 5] = [
    Test {
        arguments: &["-p", "equimod-core", "--features", "cuda,cudnn", "--lib"],
        filters: &["cuda"],
        environment: &[],
    },
    core_test!("golden_networks", ["narrow_networks_in_f32"], []),
    core_test!("golden_trajectory", ["five_steps_in_f32"], []),
    core_test!("devices", [], []),
    core_test!("cuda_counts", [], [("STANDIN_NULL", "1"), ("STANDIN_COUNTS", "target/cuda/counts.json")]),
];

impl Test {
    /// Arguments of `cargo`, with `more` after the profile.
    fn command<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["test", "--profile", PROFILE], more, self.arguments].concat()
    }
}

/// The workspace's folder `target/cuda`, which holds the toolkit, the builds with CUDA and the stand-in.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace()?.join("target/cuda"))
}

fn workspace() -> anyhow::Result<PathBuf> {
    env::current_dir().context("cannot find the current folder; start cargo xtask in the workspace")
}

/// The target directory of builds with CUDA.
///
/// # Errors
///
/// If the current folder cannot be found.
pub fn target_dir() -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("cargo"))
}

/// The variables of a build with CUDA.
///
/// # Errors
///
/// If the toolkit cannot be installed.
pub fn environment() -> anyhow::Result<Environment> {
    let home = toolkit()?;
    let mut path = OsString::from(workspace()?.join("xtask/cuda"));
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    Ok(vec![
        ("CUDA_HOME", home.clone().into()),
        ("CUDA_PATH", home.clone().into()),
        ("CUDA_ROOT", home.clone().into()),
        ("CUDA_COMPUTE_CAP", CAPABILITY.into()),
        ("EQUIMOD_NVCC", home.join("bin/nvcc").into()),
        ("LIBRARY_PATH", home.join("lib64").into()),
        ("PATH", path),
        ("CARGO_TARGET_DIR", target_dir()?.into()),
    ])
}

/// Runs the tests of the CUDA backend on the stand-in; with filters, those whose names contain one of them.
///
/// # Errors
///
/// If something cannot be built, the stand-in does not find a planted mistake, or a test fails.
pub fn on_cpu(filters: &[&str]) -> anyhow::Result<()> {
    let mut environment = environment()?;
    for test in TESTS {
        crate::cargo_in(&test.command(&["--no-run"]), &environment)?;
    }
    let library = check_stand_in()?;
    environment.extend(stand_in::environment(&library)?);
    environment.push(("EQUIMOD_TEST_DEVICE", "cuda:0".into()));
    for test in TESTS {
        let filters = if filters.is_empty() { test.filters } else { filters };
        let mut environment = environment.clone();
        environment.extend(test.environment.iter().map(|&(name, value)| (name, value.into())));
        crate::cargo_in(&[&test.command(&[])[..], &["--", "--nocapture"], filters].concat(), &environment)?;
    }
    Ok(())
}

/// Builds the stand-in for the kernels that nvcc has compiled, and tests it.
///
/// # Errors
///
/// If it cannot be built, or does not find a planted mistake.
pub fn check_stand_in() -> anyhow::Result<PathBuf> {
    let library = stand_in(&target_dir()?)?;
    self_test::run(&library)?;
    Ok(library)
}
