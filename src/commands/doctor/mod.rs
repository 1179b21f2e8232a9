//! `equimod doctor`: what this build and this machine can do, and whether a device computes correctly.

mod build;
mod checks;
mod examination;
mod gpu;
mod machine;
mod steps;
mod table;
mod text;

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::Doctor;
use crate::outputs::console;
use crate::process::device;

use build::Build;
use examination::Examination;
use gpu::Cuda;
use machine::Machine;
use text::section;

/// Version of the JSON. Within it, no key is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// The report, as `--json` prints it; docs/gpu.md describes it.
#[derive(Serialize)]
struct Report {
    schema_version: u32,
    build: Build,
    machine: Machine,
    cuda: Cuda,
    /// Results of `--device`.
    examination: Option<Examination>,
}

/// Reports on build and machine, and examines a device if one is given.
///
/// # Errors
///
/// If the device is not available or does not agree with the CPU.
pub fn run(arguments: &Doctor) -> anyhow::Result<ExitCode> {
    let device = arguments.device.as_deref().map(device::open).transpose()?;
    let (build, machine, cuda) = (Build::new(), Machine::new(), Cuda::new());
    let mut report = Report { schema_version: SCHEMA_VERSION, build, machine, cuda, examination: None };
    if !arguments.json {
        console::sentences(&report.facts())?;
    }
    if let Some(device) = device {
        console::note(&format!("checking {}", device::describe(&device)));
        report.examination = Some(Examination::of(&device));
    }
    match (&report.examination, arguments.json) {
        (_, true) => console::json(&report)?,
        (Some(examination), false) => console::result(&format!("\n{}", examination.text()))?,
        (None, false) => {}
    }
    match report.examination.as_ref().and_then(Examination::disagreement) {
        Some(sentence) => Err(anyhow::anyhow!(sentence)),
        None => Ok(ExitCode::SUCCESS),
    }
}

impl Report {
    fn facts(&self) -> String {
        let sections = [
            section("build", &self.build.rows()),
            section("machine", &self.machine.rows()),
            section("CUDA", &self.cuda.rows()),
        ];
        sections.join("\n")
    }
}
