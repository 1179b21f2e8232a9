//! CUDA without a card: the toolkit comes from Python's package index, and tests run on a stand-in for CUDA on the CPU.
//!
//! nvcc compiles the kernels as for a card, so that its errors are found and its PTX says what each kernel takes. g++
//! compiles the same sources again for the stand-in, which the tests load in place of the driver and its libraries.

mod build;
mod kernels;
mod kit;
mod plans;
mod resources;
mod runs;
mod self_test;
mod stand_in;
mod toolkit;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::steps::{cargo_in, workspace};

pub use kit::gpu_kit;
pub use stand_in::stand_in;
pub use toolkit::{Download, toolkit};

/// Whether the stand-in exists for this machine.
pub const HAS_STAND_IN: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Variables of a process.
pub type Environment = Vec<(&'static str, OsString)>;

/// Compute capability of the PTX, which the driver of every later card compiles for itself.
const CAPABILITY: &str = "80";

/// The profile of builds with CUDA.
const PROFILE: &str = "stand-in";

/// Packages and features of all builds, without the Hub, which takes minutes to build. Builds of the same packages have
/// the same features of their dependencies, and share them.
const PACKAGES: &[&str] =
    &["-p", "equimod-core", "-p", "equimod", "--no-default-features", "--features", "cuda,cudnn,nccl"];

/// Targets of the tests that run on the stand-in.
const TEST_TARGETS: &[&str] = &[
    "--lib",
    "--test",
    "golden_networks",
    "--test",
    "golden_trajectory",
    "--test",
    "devices",
    "--test",
    "cuda_counts",
];

/// Targets of builds of the command: with a test, dependencies have the features that they have for tests.
const COMMAND: &[&str] = &["--bin", "equimod", "--test", "cuda_counts"];

/// Variables that set the stand-in's mode.
type Mode = &'static [(&'static str, &'static str)];

/// Tests that run on the stand-in: the target, the arguments of the test program, and the stand-in's mode.
const TESTS: [(&[&str], &[&str], Mode); 9] = [
    (&["--lib"], &["nccl::"], &[("STANDIN_DEVICES", "2")]),
    (&["--lib"], &["nccl::"], &[("STANDIN_DEVICES", "2"), ("STANDIN_LAZY", "1")]),
    (&["--lib"], &["cuda::"], &[]),
    (&["--lib"], &["cuda::"], &[("STANDIN_GUARD", "1"), ("STANDIN_ORDER", "7")]),
    (&["--lib"], &["cuda::"], &[("STANDIN_LAZY", "1"), ("STANDIN_ORDER", "reverse")]),
    (&["--test", "golden_networks"], &["narrow_networks_in_f32"], &[]),
    (&["--test", "golden_trajectory"], &["--exact", "golden_five_steps_in_f32"], &[]),
    (&["--test", "devices"], &[], &[("STANDIN_LAZY", "1")]),
    (
        &["--test", "cuda_counts"],
        &["--nocapture"],
        &[("STANDIN_NULL", "1"), ("STANDIN_COUNTS", "../target/cuda/counts.json")],
    ),
];

/// The workspace's folder `target/cuda`, which holds the toolkit, the builds with CUDA and the stand-in.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace()?.join("target/cuda"))
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

/// Runs the tests of the CUDA backend on the stand-in, and trains with the command; with filters, only tests whose names
/// contain one of them.
///
/// # Errors
///
/// If something cannot be built, the stand-in does not find a planted mistake, or a test or a run fails.
pub fn on_cpu(filters: &[&str]) -> anyhow::Result<()> {
    let mut environment = environment()?;
    let profile = ["--profile", PROFILE];
    cargo_in(&[&["test", "--no-run"], &profile[..], PACKAGES, TEST_TARGETS].concat(), &environment)?;
    if filters.is_empty() {
        cargo_in(&[&["build"], &profile[..], PACKAGES, COMMAND].concat(), &environment)?;
    }
    resources::check(&toolkit()?)?;
    if filters.is_empty() {
        plans::check(&environment)?;
    }
    let library = check_stand_in()?;
    environment.extend(stand_in::environment(&library)?);
    environment.push(("EQUIMOD_TEST_DEVICE", "cuda:0".into()));
    for (target, arguments, mode) in TESTS {
        let arguments = if filters.is_empty() { arguments } else { filters };
        let in_mode: Environment = mode.iter().map(|&(name, value)| (name, value.into())).collect();
        let command = [&["test"], &profile[..], PACKAGES, target, &["--"], arguments].concat();
        cargo_in(&command, &[&environment[..], &in_mode].concat())?;
    }
    if filters.is_empty() { runs::check(&target_dir()?.join(PROFILE).join("equimod"), &environment) } else { Ok(()) }
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
