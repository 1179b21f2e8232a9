//! Checksums in the format of `sha256sum --check`. The card is not listed, so that it can be edited.

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context, bail};
use equimod_core::checkpoint::sha256;

use crate::artifact::CARD_FILE;
use crate::artifact::Files;

/// File name of the checksums.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// Text of the checksum file.
pub fn of(files: &Files) -> String {
    let listed = files.iter().filter(|(name, _)| ![SUMS_FILE, CARD_FILE].contains(&name.as_str()));
    listed.map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect()
}

/// Names and checksums in the text of a checksum file.
pub fn parse(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect()
}

/// Names and checksums of an earlier export in a folder; empty if there is none.
pub fn listed(folder: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join(SUMS_FILE)).unwrap_or_default();
    parse(&text).into_iter().filter(|(name, _)| stays_inside(name)).map(|(n, s)| (n.to_owned(), s.to_owned())).collect()
}

/// Whether a file name stays inside the folder of the export.
fn stays_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Reads an export with its card, and verifies each file.
///
/// # Errors
///
/// If the folder is not an export, or a file differs from its checksum.
pub fn read(folder: &Path) -> anyhow::Result<Files> {
    let path = folder.join(SUMS_FILE);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{} is not an export: cannot read {SUMS_FILE}; write one with `equimod export`", folder.display())
    })?;
    let mut files = Files::new();
    for (name, sum) in parse(&text) {
        if !stays_inside(name) {
            bail!("{} lists {name}, which is outside of its folder", path.display());
        }
        let file = folder.join(name);
        let bytes =
            fs::read(&file).with_context(|| format!("cannot read {}, which {SUMS_FILE} lists", file.display()))?;
        if sha256(&bytes) != sum {
            bail!("{} does not match its checksum in {SUMS_FILE}; export again", file.display());
        }
        files.insert(name.into(), bytes);
    }
    files.insert(SUMS_FILE.into(), text.into_bytes());
    let card = folder.join(CARD_FILE);
    let bytes = fs::read(&card).with_context(|| format!("cannot read {}", card.display()))?;
    files.insert(CARD_FILE.into(), bytes);
    Ok(files)
}
