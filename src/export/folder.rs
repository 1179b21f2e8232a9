//! Writing the folder of an export.

use std::fs;
use std::path::Path;

use anyhow::Context;
use equimod_core::checkpoint::{sha256, write_atomic, write_folder};

use super::sums::{SUMS_FILE, listed};
use crate::artifact::CARD_FILE;
use crate::artifact::Files;
use crate::card::is_edited;

/// Writes an export to `out`.
///
/// A new folder appears complete. In an existing one, each file is replaced atomically, unchanged files of an earlier
/// export that this one lacks are removed, the checksums are written last, and all other files are kept.
///
/// # Errors
///
/// If a file cannot be written or removed.
pub fn write(out: &Path, files: &Files) -> anyhow::Result<()> {
    if !out.exists() {
        write_folder(out, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
        return Ok(());
    }
    let earlier = listed(out);
    let (sums, others): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name == SUMS_FILE);
    for (name, bytes) in others {
        let path = out.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        write_atomic(&path, bytes)?;
    }
    for (name, sum) in earlier.into_iter().filter(|(name, _)| !files.contains_key(name)) {
        let path = out.join(&name);
        // Keep a file that was changed after the export.
        if fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == sum) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            // Remove folders that are empty now.
            let folders = path.ancestors().skip(1).take_while(|folder| *folder != out);
            folders.map_while(|folder| fs::remove_dir(folder).ok()).for_each(drop);
        }
    }
    for (name, bytes) in sums {
        write_atomic(&out.join(name), bytes)?;
    }
    Ok(())
}

/// Keeps the card of an earlier export if it was edited by hand, and returns whether it was.
///
/// # Errors
///
/// If the card cannot be read.
pub fn keep_card(files: &mut Files, out: &Path) -> anyhow::Result<bool> {
    let path = out.join(CARD_FILE);
    if !path.is_file() {
        return Ok(false);
    }
    let card = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let edited = is_edited(&card);
    if edited {
        files.insert(CARD_FILE.into(), card);
    }
    Ok(edited)
}
