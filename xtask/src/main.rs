//! Developer tasks; `cargo xtask check` runs every check of the workspace.
#![allow(clippy::print_stderr)] // A command-line tool.

mod cuda;
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

/// Accepted licenses of dependencies; an expression is accepted if one of its alternatives uses only these.
const LICENSES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Crates with other licenses, each with the reason for accepting it.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("colored", "MPL-2.0", "dependency of hf-hub's transfers; its license covers only its own files, unchanged here"),
    ("option-ext", "MPL-2.0", "same as above"),
];

/// Crates that are linked in several versions, each with the reason.
const DUPLICATES: [(&str, &str); 16] = [
    ("base64", "candle's tokenizers and hyper require older versions"),
    ("block-buffer", "dependency of digest"),
    ("constant_time_eq", "blake3 and zip require different versions"),
    ("cpufeatures", "dependency of digest"),
    ("crypto-common", "dependency of digest"),
    ("darling", "build time only: derive_builder and bon require different versions"),
    ("darling_core", "dependency of darling"),
    ("darling_macro", "dependency of darling"),
    ("digest", "sha2 and crc-fast (of hf-hub's transfers) require different versions"),
    ("lz4_flex", "parquet and hf-hub's transfers require different versions"),
    ("rand", "candle and hf-hub require different versions"),
    ("rand_core", "dependency of rand"),
    ("getrandom", "rand 0.9 of candle and tempfile require different versions"),
    ("hashbrown", "indexmap and parquet require different versions"),
    ("miniz_oxide", "png and zip require different versions"),
    ("syn", "build time only: macro crates require different versions"),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => check(),
        ["test"] => test(),
        ["dependencies"] => dependencies(),
        ["modules"] => modules::check(),
        ["memory"] => valgrind(),
        ["endurance"] => endurance("200"),
        ["endurance", kills] => endurance(kills),
        ["fuzz"] => fuzz(FUZZ_SECONDS),
        ["fuzz", seconds] => fuzz(seconds.parse().context("give the seconds for each target as a whole number")?),
        ["cuda-on-cpu", filters @ ..] => cuda::on_cpu(filters),
        ["gpu-kit"] => cuda::gpu_kit(None),
        ["gpu-kit", out] => cuda::gpu_kit(Some(out)),
        ["stand-in"] => cuda::check_stand_in().map(|_| ()),
        _ => bail!(
            "usage: cargo xtask check | test | dependencies | modules | memory | endurance [KILLS] | fuzz [SECONDS] | \
             cuda-on-cpu [FILTER…] | stand-in | gpu-kit [OUT]"
        ),
    }
}

/// Features of the default build and MNIST.
const ALL: &str = "--features=mnist";

fn check() -> anyhow::Result<()> {
    dependencies()?;
    eprintln!("» circular dependencies of modules");
    modules::check()?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--release", ALL, "--", "-D", "warnings"], &[])?;
    // The command without the Hub and MNIST.
    cargo(&["clippy", "--release", "--no-default-features", "--", "-D", "warnings"], &[])?;
    let deny = ("RUSTDOCFLAGS", "-D warnings");
    cargo(&["doc", "--workspace", "--no-deps", "--release", ALL], &[deny])?;
    test()?;
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        cuda::on_cpu(&[])?;
    } else {
        eprintln!("» CUDA: skipped, because its stand-in needs Linux on x86-64");
    }
    valgrind()?;
    fuzz(FUZZ_SECONDS)
}

/// Runs the kernels' tests on small shapes under Valgrind, which detects reads of uninitialized or foreign memory.
/// Under Valgrind, programs see a processor with AVX2 and without AVX-512.
fn valgrind() -> anyhow::Result<()> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("» memory: skipped, because valgrind is not installed");
        return Ok(());
    }
    let runner = "target.'cfg(unix)'.runner = ['valgrind', '--quiet', '--error-exitcode=9']";
    let tests = ["test", "--release", "-p", "equimod-core", "--lib", "--config", runner, "backend::"];
    // The larger tests run the same code.
    let large = ["--skip", "any_number_of_threads", "--skip", "shapes_of_a_resnet"];
    cargo(&[&tests[..], &["--", "--test-threads", "1"], &large].concat(), &[])
}

/// Runs the endurance test with more kills than the default.
fn endurance(kills: &str) -> anyhow::Result<()> {
    let test = ["test", "--release", "-p", "equimod", "--test", "endurance", "killed_again", "--", "--nocapture"];
    cargo(&test, &[("EQUIMOD_KILLS", kills)])
}

/// Default time for each fuzz target, in seconds.
const FUZZ_SECONDS: u64 = 10;

/// Runs every fuzz target, starting from valid inputs. Coverage comes without a sanitizer, which needs nightly Rust.
fn fuzz(seconds: u64) -> anyhow::Result<()> {
    if !Command::new(env!("CARGO")).args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
        cargo(&["install", "cargo-fuzz", "--locked", "--version", "0.13.2"], &[])?;
    }
    cargo(&["run", "--quiet", "--release", "-p", "equimod-data", "--example", "fuzz_seeds"], &[])?;
    ["equimod-core/fuzz", "equimod-data/fuzz"].into_iter().try_for_each(|folder| fuzz_all(folder, seconds))
}

/// Runs every target in a folder of fuzz targets.
fn fuzz_all(folder: &str, seconds: u64) -> anyhow::Result<()> {
    let folder = ["--fuzz-dir", folder];
    cargo(&[&["fuzz", "build", "--sanitizer", "none"], &folder[..]].concat(), &[])?;
    let listed = Command::new(env!("CARGO")).args(["fuzz", "list"]).args(folder).output()?;
    let limit = format!("-max_total_time={seconds}");
    let flags = ["--", &limit, "-rss_limit_mb=4096", "-timeout=20"];
    for target in String::from_utf8(listed.stdout)?.lines() {
        eprintln!("» fuzz {target}, {seconds} s");
        let run = ["fuzz", "run", "--sanitizer", "none"];
        let output = Command::new(env!("CARGO")).args(run).args(folder).arg(target).args(flags).output()?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr);
            let end: Vec<&str> = log.lines().rev().take(60).collect();
            bail!("fuzz target {target} failed:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(())
}

fn test() -> anyhow::Result<()> {
    cargo(&["test", "--workspace", "--release", ALL], &[])
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let environment: Vec<(&str, OsString)> = environment.iter().map(|(name, value)| (*name, value.into())).collect();
    cargo_in(arguments, &environment)
}

fn cargo_in(arguments: &[&str], environment: &[(&str, OsString)]) -> anyhow::Result<()> {
    eprintln!("» cargo {}", arguments.join(" "));
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    let status = command.status().with_context(|| format!("cannot start cargo {}", arguments[0]))?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    eprintln!("  {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Checks the licenses of everything that is built for this platform, and duplicate crates.
fn dependencies() -> anyhow::Result<()> {
    eprintln!("» licenses and duplicates");
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--workspace",
        ALL,
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]);
    let output = command.output().context("cannot start cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = String::from_utf8(output.stdout)?;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut problems = BTreeSet::new();
    for line in listed.lines() {
        let Some((package, license)) = line.split_once('|') else { continue };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        versions.entry(name).or_default().insert(version);
        let license = license.trim_end_matches(" (*)");
        let excepted = EXCEPTIONS.iter().any(|(known, theirs, _)| *known == name && *theirs == license);
        if !excepted && !is_allowed(license) {
            problems.insert(format!("{name} {version} has the license {license:?}, which is not on the list"));
        }
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        if !DUPLICATES.iter().any(|(known, _)| known == name) {
            let versions: Vec<&str> = versions.iter().copied().collect();
            problems.insert(format!("{name} is built in several versions: {}", versions.join(", ")));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.into_iter().collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// Whether one alternative of an expression such as `(MIT OR Apache-2.0) AND ISC` uses only accepted licenses.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // Without parentheses, each AND part needs one accepted alternative, which is right for every expression in use.
    plain.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENSES.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions() {
        for fine in
            ["MIT", "MIT OR Apache-2.0", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "GPL-3.0 OR MIT"]
        {
            assert!(is_allowed(fine), "{fine}");
        }
        for bad in ["GPL-3.0", "none", "MIT AND GPL-3.0", "(MIT OR GPL-2.0) AND SSPL-1.0"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
