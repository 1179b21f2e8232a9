//! The stand-in's test of itself: every planted mistake has to be found, and nothing without one.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, bail};

use super::stand_in;

/// A case of `selftest.cpp`, the stand-in's mode, and words of the message that names its mistake.
struct Case(&'static str, &'static [(&'static str, &'static str)], &'static str);

const LAZY: &[(&str, &str)] = &[("STANDIN_LAZY", "1")];
const GUARD: &[(&str, &str)] = &[("STANDIN_GUARD", "1")];
const REVERSE: &[(&str, &str)] = &[("STANDIN_ORDER", "reverse")];
const SHUFFLED: &[(&str, &str)] = &[("STANDIN_ORDER", "7")];
const SMALL: &[(&str, &str)] = &[("STANDIN_MEMORY_GIB", "1")];
const TWO: &[(&str, &str)] = &[("STANDIN_DEVICES", "2")];
const TWO_LAZY: &[(&str, &str)] = &[("STANDIN_DEVICES", "2"), ("STANDIN_LAZY", "1")];

const CASES: &[Case] = &[
    Case("wait", LAZY, "instead of 30"),
    Case("pinned-source", LAZY, "is 8.000000 instead of 7"),
    Case("pinned-result", LAZY, "is 0.000000 instead of 7"),
    Case("past-the-end", GUARD, "kernel scale, block (3,0,0), thread (232,0,0) touched"),
    Case("unwritten", &[], "nan instead of 0"),
    Case("freed", &[], "argument 2 of kernel scale"),
    Case("freed", LAZY, "argument 2 of kernel scale"),
    Case("host", &[], "is memory of the host"),
    Case("device", TWO, "is memory of device 1, but the kernel runs on device 0"),
    Case("memory", SMALL, "returned 2"),
    Case("missing-barrier", REVERSE, "instead of 0"),
    Case("missing-barrier", SHUFFLED, "instead of 0"),
    Case("two-barriers", &[], "threads wait at different barriers"),
    Case("block", &[], "more threads than a block can have"),
    Case("launch-bounds", &[], "more threads than its __launch_bounds__"),
    Case("grid", &[], "more blocks than a grid can have"),
    Case("shared", &[], "wrote past the 16 bytes of dynamic shared memory"),
    Case("parameters", &[], "takes other parameters in PTX"),
    Case("counts", &[], "the counts returned 1"),
    Case("times", &[], "cuEventElapsedTime"),
    Case("product", &[], "number"),
    Case("channels-last", &[], "number"),
    Case("channels-first", &[], "number"),
    Case("workspace", &[], "the workspace has"),
    Case("ranks", TWO, "ncclAllGather"),
    Case("ranks", TWO_LAZY, "ncclAllGather"),
    Case("abort", &[], "returned 6"),
];

/// Runs every case, with and without its mistake.
///
/// # Errors
///
/// If a mistake is not found, or something else is.
pub fn run(library: &Path) -> anyhow::Result<()> {
    eprintln!("» the stand-in's test of itself");
    let problems: Vec<String> =
        CASES.iter().map(|case| problem(library, case)).collect::<Result<Vec<_>, _>>()?.concat();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    counts_at_exit(library)
}

/// What a case shows that it should not.
fn problem(library: &Path, case: &Case) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let Case(name, mode, words) = case;
    let right = start(library, name, "right", mode)?;
    if !right.status.success() {
        problems.push(format!("case {name} {mode:?} fails without its mistake: {}", text(&right)));
    }
    let wrong = start(library, name, "wrong", mode)?;
    if wrong.status.success() || !text(&wrong).contains(words) {
        problems.push(format!("case {name} {mode:?} does not find its mistake, {words:?}: {}", text(&wrong)));
    }
    Ok(problems)
}

fn start(library: &Path, case: &str, which: &str, mode: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = Command::new(library.join("selftest"));
    command.arg(library.join("generated/selftest.ptx")).args([case, which]);
    command.envs(stand_in::environment(library)?).envs(mode.iter().copied());
    command.output().context("cannot start the stand-in's test of itself")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Checks the file of counts that is written at the end of a process.
fn counts_at_exit(library: &Path) -> anyhow::Result<()> {
    let file = library.join("generated/counts.json");
    start(library, "counts", "right", &[("STANDIN_COUNTS", &file.to_string_lossy())])?;
    let written = std::fs::read_to_string(&file).context("the stand-in wrote no file of counts")?;
    for expected in ["\"cuLaunchKernel\": 3", "\"scale\": 3", "\"down\": 4000", "\"peak\": 4096"] {
        if !written.contains(expected) {
            bail!("the stand-in's counts lack {expected}:\n{written}");
        }
    }
    Ok(())
}
