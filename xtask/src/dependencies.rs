//! Licenses of dependencies, and crates that are built in several versions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, bail};

use crate::steps::all;

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
const DUPLICATES: [(&str, &str); 18] = [
    ("base64", "candle's tokenizers and hyper require older versions"),
    ("block-buffer", "dependency of digest"),
    ("constant_time_eq", "blake3 and zip require different versions"),
    ("cpufeatures", "dependency of digest"),
    ("crypto-common", "dependency of digest"),
    ("darling", "build time only: derive_builder and bon require different versions"),
    ("darling_core", "dependency of darling"),
    ("darling_macro", "dependency of darling"),
    ("digest", "sha2 and crc-fast (of hf-hub's transfers) require different versions"),
    ("itertools", "build time only: bindgen and other crates require different versions"),
    ("lz4_flex", "parquet and hf-hub's transfers require different versions"),
    ("rand", "candle and hf-hub require different versions"),
    ("rand_core", "dependency of rand"),
    ("getrandom", "rand 0.9 of candle and tempfile require different versions"),
    ("hashbrown", "indexmap and parquet require different versions"),
    ("miniz_oxide", "png and zip require different versions"),
    ("shlex", "build time only: bindgen and cc require different versions"),
    ("syn", "build time only: macro crates require different versions"),
];

/// Checks the licenses of everything that is built for this platform, and duplicate crates.
///
/// # Errors
///
/// If a license is not accepted, a crate is built in several versions without a reason, or cargo fails.
pub fn check() -> anyhow::Result<()> {
    eprintln!("» licenses and duplicates");
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--workspace",
        all(),
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
