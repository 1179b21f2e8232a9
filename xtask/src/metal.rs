//! Metal without a Mac: types and lints are checked for Apple's processors, and nothing is linked or run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::steps::{cargo_in, workspace};

/// Processors of Apple's computers.
const TARGET: &str = "aarch64-apple-darwin";

/// Features of the builds for Apple's computers, with MNIST.
const FEATURES: &str = "--features=mnist,metal,accelerate";

/// Variables that name the compilers and the archiver for [`TARGET`].
const TOOLS: [&str; 3] = ["CC_aarch64_apple_darwin", "CXX_aarch64_apple_darwin", "AR_aarch64_apple_darwin"];

/// Runs clippy on the workspace with Metal and Accelerate, for Apple's processors.
///
/// # Errors
///
/// If Rust's standard library for them is not installed, or clippy finds something.
pub fn check() -> anyhow::Result<()> {
    ensure!(
        has_library()?,
        "Rust's standard library for {TARGET} is not installed; install it with `rustup target add {TARGET}`"
    );
    let mut environment = Vec::new();
    if cfg!(not(target_os = "macos")) {
        let stub = workspace()?.join("xtask/metal/cc");
        environment.extend(TOOLS.map(|tool| (tool, stub.clone().into())));
        // The folder in which Apple's headers would be looked for.
        environment.push(("SDKROOT", "/".into()));
    }
    let arguments = ["clippy", "--workspace", "--all-targets", "--release", FEATURES, "--target", TARGET];
    cargo_in(&[&arguments[..], &["--", "-D", "warnings"]].concat(), &environment)
}

/// Whether the standard library for [`TARGET`] is installed.
fn has_library() -> anyhow::Result<bool> {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let output = output.context("cannot start rustc; install Rust with rustup")?;
    Ok(output.status.success() && Path::new(String::from_utf8(output.stdout)?.trim()).is_dir())
}
