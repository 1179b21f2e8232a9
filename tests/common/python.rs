//! A Python with PyTorch, if there is one.

use std::path::Path;
use std::process::{Command, Output};

/// Finds a Python that has PyTorch and torchvision.
pub fn python() -> Option<String> {
    let named = std::env::var("EQUIMOD_PYTHON").ok();
    let candidates = named.into_iter().chain(["python3".to_owned(), "/usr/bin/python3".to_owned()]);
    let works = |python: &String| {
        run(python, &["-c", "import torch, torchvision, numpy, safetensors, PIL"], &[])
            .is_some_and(|o| o.status.success())
    };
    candidates.into_iter().find(works)
}

/// Runs Python with the libraries that `.ci/run` puts into `target/python`.
pub fn run(python: &str, arguments: &[&str], environment: &[(&str, String)]) -> Option<Output> {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python");
    let mut command = Command::new(python);
    command.env("PYTHONPATH", libraries).env("HF_HUB_DISABLE_TELEMETRY", "1").args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value))).output().ok()
}
