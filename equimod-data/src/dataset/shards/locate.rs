//! Locations of shards and their indices.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dataset::folder::ENDINGS;
use crate::{Error, Result};

/// Upper limit of the number of shards that a pattern may name.
const MOST_SHARDS: u64 = 100_000;

/// Compression of a tar file: its name, file suffixes, magic bytes, and the command that removes it.
struct Layer {
    name: &'static str,
    endings: &'static [&'static str],
    magic: &'static [u8],
    command: &'static str,
}

const LAYERS: [Layer; 5] = [
    Layer { name: "gzip", endings: &[".tar.gz", ".tgz"], magic: &[0x1f, 0x8b], command: "gunzip" },
    Layer { name: "zstd", endings: &[".tar.zst", ".tzst"], magic: &[0x28, 0xb5, 0x2f, 0xfd], command: "unzstd" },
    Layer { name: "bzip2", endings: &[".tar.bz2", ".tbz2"], magic: b"BZh", command: "bunzip2" },
    Layer { name: "xz", endings: &[".tar.xz", ".txz"], magic: &[0xfd, b'7', b'z', b'X', b'Z'], command: "unxz" },
    Layer { name: "lz4", endings: &[".tar.lz4"], magic: &[4, 34, 77, 24], command: "unlz4" },
];

/// Reason why a compressed tar file is rejected, and the remedy.
fn compressed(layer: &Layer) -> String {
    let Layer { name, command, .. } = layer;
    format!(
        "it is a tar file compressed by {name}, which can only be read from the start; unpack that layer \
         with {command}, then run `equimod data index` on the .tar file"
    )
}

fn layer_of(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.endings.iter().any(|ending| name.ends_with(ending)))
}

/// Rejects a file that is compressed, whatever its name.
pub(super) fn check_uncompressed(file: &mut fs::File) -> std::result::Result<(), String> {
    let mut head = [0; 8];
    let mut length = 0;
    while length < head.len() {
        match file.read(&mut head[length..]).map_err(|e| e.to_string())? {
            0 => break,
            more => length += more,
        }
    }
    match LAYERS.iter().find(|layer| head[..length].starts_with(layer.magic)) {
        Some(layer) => Err(compressed(layer)),
        None => Ok(()),
    }
}

/// Whether a path is that of an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with("index.json") && path.is_file()
}

/// Path of the index of `location`.
pub(super) fn index_path(location: &Path) -> PathBuf {
    if location.is_dir() {
        return location.join("equimod-index.json");
    }
    let name = location.file_name().unwrap_or_default().to_string_lossy().into_owned();
    location.with_file_name(format!("{name}.index.json"))
}

/// Shards that `location` names, in order.
pub(super) fn shard_paths(location: &Path) -> Result<Vec<PathBuf>> {
    if location.is_dir() {
        return in_folder(location);
    }
    let name = location.display().to_string();
    let pattern = braces(&name);
    match layer_of(&name) {
        Some(layer) if pattern.is_some() || location.is_file() => return Err(Error::data_set(name, compressed(layer))),
        _ => {}
    }
    match pattern {
        Some(paths) => Ok(paths?),
        None if is_shard(location) && location.is_file() => Ok(vec![location.into()]),
        None => Ok(Vec::new()),
    }
}

fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "tar")
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| Error::io(folder, e)));
    let mut entries = entries.collect::<Result<Vec<_>>>()?;
    entries.sort();
    let shards: Vec<PathBuf> = entries.iter().filter(|path| is_shard(path) && path.is_file()).cloned().collect();
    // A compressed archive next to readable files is a leftover.
    let readable = |path: &PathBuf| {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        path.is_dir() || ending == "parquet" || ENDINGS.contains(&ending.as_str())
    };
    if shards.is_empty() && !entries.iter().any(readable) {
        let packed = entries.iter().find_map(|path| Some((path, layer_of(&path.to_string_lossy())?)));
        if let Some((path, layer)) = packed {
            return Err(Error::data_set(path.display().to_string(), compressed(layer)));
        }
    }
    Ok(shards)
}

/// Expands a pattern: `a-{08..11}.tar` to `a-08.tar` … `a-11.tar`.
fn braces(pattern: &str) -> Option<Result<Vec<PathBuf>>> {
    let (before, rest) = pattern.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let (low, high): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    if low > high || high - low >= MOST_SHARDS {
        return Some(Err(Error::data_set(
            pattern,
            format!("its range must count up, over at most {MOST_SHARDS} files"),
        )));
    }
    let path = |number: u64| PathBuf::from(format!("{before}{number:0width$}{after}", width = first.len()));
    Some(Ok((low..=high).map(path).collect()))
}
