//! Every check of the workspace in one command: `cargo xtask check`.
#![allow(clippy::print_stderr)] // A tool for people at a terminal.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

/// Licences under which a dependency may be used; an expression is fine if one of its alternatives is made of these.
const LICENCES: [&str; 14] = [
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

/// Crates under a licence that is not on the list, each with the reason that it can be used all the same.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("colored", "MPL-2.0", "comes with hf-hub's transfers; the licence is that of its own files, which are unchanged"),
    ("option-ext", "MPL-2.0", "the same"),
];

/// Crates that several versions of are linked into the command, each with the reason that it cannot be helped.
const DUPLICATES: [(&str, &str); 16] = [
    ("base64", "old ones come with candle's tokenizers and with hyper"),
    ("block-buffer", "with digest"),
    ("constant_time_eq", "blake3 and zip ask for different ones"),
    ("cpufeatures", "with digest"),
    ("crypto-common", "with digest"),
    ("darling", "build time only: derive_builder and bon ask for different ones"),
    ("darling_core", "with darling"),
    ("darling_macro", "with darling"),
    ("digest", "crc-fast, of hf-hub's transfers, and sha2 ask for different ones"),
    ("lz4_flex", "parquet and hf-hub's transfers ask for different ones"),
    ("rand", "candle and hf-hub ask for different ones"),
    ("rand_core", "with rand"),
    ("getrandom", "rand 0.9 of candle and tempfile ask for different ones"),
    ("hashbrown", "indexmap and parquet ask for different ones"),
    ("miniz_oxide", "png and zip ask for different ones"),
    ("syn", "build time only: macro crates ask for different ones"),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => check(),
        ["test"] => test(),
        ["dependencies"] => dependencies(),
        ["modules"] => modules::check(),
        ["memory"] => memory(),
        ["endurance"] => endurance("200"),
        ["endurance", kills] => endurance(kills),
        ["fuzz"] => fuzz(FUZZ_SECONDS),
        ["fuzz", seconds] => fuzz(seconds.parse().context("give the seconds for each target as a whole number")?),
        _ => bail!(
            "usage: cargo xtask check | test | dependencies | modules | memory | endurance [KILLS] | fuzz [SECONDS]"
        ),
    }
}

/// What the default build has, and MNIST.
const ALL: &str = "--features=mnist";

fn check() -> anyhow::Result<()> {
    dependencies()?;
    eprintln!("» circular dependencies of modules");
    modules::check()?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--release", ALL, "--", "-D", "warnings"], &[])?;
    // The command without the Hub and without MNIST.
    cargo(&["clippy", "--release", "--no-default-features", "--", "-D", "warnings"], &[])?;
    let deny = ("RUSTDOCFLAGS", "-D warnings");
    cargo(&["doc", "--workspace", "--no-deps", "--release", ALL], &[deny])?;
    test()?;
    memory()?;
    fuzz(FUZZ_SECONDS)
}

/// The kernels' tests on small shapes under Valgrind: no value is read before it is written, or outside its memory.
/// Valgrind shows programs a processor with AVX2 and without AVX-512.
fn memory() -> anyhow::Result<()> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("» memory: there is no valgrind on this machine; left out");
        return Ok(());
    }
    let runner = "target.'cfg(unix)'.runner = ['valgrind', '--quiet', '--error-exitcode=9']";
    let tests = ["test", "--release", "-p", "equimod-core", "--lib", "--config", runner, "kernels::"];
    // Nothing is looked at there that smaller tests do not look at.
    let large = ["--skip", "any_number_of_threads", "--skip", "shapes_of_a_resnet"];
    cargo(&[&tests[..], &["--", "--test-threads", "1"], &large].concat(), &[])
}

/// Kills runs more often than the tests do.
fn endurance(kills: &str) -> anyhow::Result<()> {
    let test = ["test", "--release", "-p", "equimod", "--test", "endurance", "killed_again", "--", "--nocapture"];
    cargo(&test, &[("EQUIMOD_KILLS", kills)])
}

/// Seconds for each fuzz target, if nothing else is said.
const FUZZ_SECONDS: u64 = 10;

/// Runs every fuzz target for some seconds, from whole inputs. Coverage without a sanitizer: the stable compiler does.
fn fuzz(seconds: u64) -> anyhow::Result<()> {
    if !Command::new(env!("CARGO")).args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
        cargo(&["install", "cargo-fuzz", "--locked", "--version", "0.13.2"], &[])?;
    }
    cargo(&["run", "--quiet", "--release", "-p", "equimod-data", "--example", "fuzz_seeds"], &[])?;
    ["equimod-core/fuzz", "equimod-data/fuzz"].into_iter().try_for_each(|folder| fuzz_all(folder, seconds))
}

/// Every target in a folder of them.
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
            let told = String::from_utf8_lossy(&output.stderr);
            let end: Vec<&str> = told.lines().rev().take(60).collect();
            bail!("fuzz target {target} failed:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(())
}

fn test() -> anyhow::Result<()> {
    cargo(&["test", "--workspace", "--release", ALL], &[])
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    eprintln!("» cargo {}", arguments.join(" "));
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).envs(environment.iter().copied());
    let status = command.status().with_context(|| format!("cargo {} cannot be started", arguments[0]))?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    eprintln!("  {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Licences of everything that is built for this platform, and crates in several versions.
fn dependencies() -> anyhow::Result<()> {
    eprintln!("» licences and duplicates");
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
    let output = command.output().context("cargo tree cannot be started")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = String::from_utf8(output.stdout)?;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut problems = BTreeSet::new();
    for line in listed.lines() {
        let Some((package, licence)) = line.split_once('|') else { continue };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        versions.entry(name).or_default().insert(version);
        let licence = licence.trim_end_matches(" (*)");
        let excepted = EXCEPTIONS.iter().any(|(known, theirs, _)| *known == name && *theirs == licence);
        if !excepted && !is_allowed(licence) {
            problems.insert(format!("{name} {version} has the licence {licence:?}, which is not on the list"));
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

/// Whether one alternative of an expression such as `(MIT OR Apache-2.0) AND ISC` is made of allowed licences.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // Without brackets, each AND part must have one allowed alternative: true of every expression in use.
    plain.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
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
