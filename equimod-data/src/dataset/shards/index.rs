//! Where every sample of the shards is.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Archive, Entry, EntryType};

use crate::dataset::folder::ENDINGS;
use crate::hashed_file::HashedFile;
use crate::{Error, Result};

/// Entries that a shard may have, and bytes that one may have.
const MOST_ENTRIES: usize = 10_000_000;
const MOST_ENTRY_BYTES: u64 = 1 << 28;
/// Longest name of a class, in bytes.
const LONGEST_LABEL: u64 = 64;
/// Largest class.
const LARGEST_CLASS: u32 = 1 << 20;
/// Shards that a pattern may name.
const MOST_SHARDS: u64 = 100_000;
const VERSION: u32 = 1;

/// The samples of all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub shards: Vec<Shard>,
}

/// The samples of a shard, column by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shard {
    /// Name of the file, beside the index.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    pub keys: Vec<String>,
    /// Of the picture in the file.
    pub offsets: Vec<u64>,
    pub lengths: Vec<u32>,
    pub labels: Vec<Option<u32>>,
}

/// Reads every header of the shards at `location` and writes the index beside them; returns its path and the number of
/// samples. Nothing is unpacked.
pub fn index_shards(location: &Path, progress: &mut dyn FnMut(usize)) -> Result<(PathBuf, usize)> {
    let paths = shard_paths(location)?;
    let mut shards = Vec::new();
    let mut samples = 0;
    for path in &paths {
        let shard = read_shard(path)?;
        samples += shard.offsets.len();
        shards.push(shard);
        progress(shards.len());
    }
    if samples == 0 {
        return Err(Error::data_set(location.display().to_string(), "its tar files hold no pictures"));
    }
    let path = index_path(location);
    let mut file = HashedFile::create(&path)?;
    file.write(&Index { version: VERSION, shards }.to_json()?)?;
    file.commit()?;
    Ok((path, samples))
}

impl Index {
    /// The index of `location`, if there is one.
    pub fn read(location: &Path) -> Result<Option<Self>> {
        let path = index_path(location);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| Error::io(&path, e))?,
        };
        let index: Self = serde_json::from_slice(&bytes).map_err(|e| {
            let text = format!("it is not an index of tar files ({e}); remove it and run `equimod data index`");
            Error::data_set(path.display().to_string(), text)
        })?;
        if index.version != VERSION {
            let text = format!("it has version {}, this program reads {VERSION}", index.version);
            return Err(Error::data_set(path.display().to_string(), text));
        }
        Ok(Some(index))
    }

    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::Config(e.to_string()))
    }
}

impl Shard {
    /// Whether the columns fit each other and the file.
    pub fn check(&self) -> std::result::Result<(), String> {
        let count = self.offsets.len();
        if [self.keys.len(), self.lengths.len(), self.labels.len()] != [count; 3] {
            return Err(format!("the columns of {} differ in length", self.file));
        }
        let inside = |(&offset, &length): (&u64, &u32)| {
            u64::from(length) <= MOST_ENTRY_BYTES
                && offset.checked_add(u64::from(length)).is_some_and(|end| end <= self.bytes)
        };
        if !self.offsets.iter().zip(&self.lengths).all(inside) {
            return Err(format!("an entry leads out of {}", self.file));
        }
        match self.labels.iter().flatten().all(|&label| label < LARGEST_CLASS) {
            true => Ok(()),
            false => Err(format!("a class of {} is too large", self.file)),
        }
    }
}

/// Where the index of `location` is.
fn index_path(location: &Path) -> PathBuf {
    if location.is_dir() {
        return location.join("equimod-index.json");
    }
    let name = location.file_name().unwrap_or_default().to_string_lossy().into_owned();
    location.with_file_name(format!("{name}.index.json"))
}

/// The shards that `location` names, in order.
pub(super) fn shard_paths(location: &Path) -> Result<Vec<PathBuf>> {
    let name = location.display().to_string();
    let is_shard = |path: &Path| path.extension().is_some_and(|ending| ending == "tar");
    if location.is_dir() {
        let entries = fs::read_dir(location).map_err(|e| Error::io(location, e))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| Error::io(location, e)));
        let mut paths = paths.collect::<Result<Vec<_>>>()?;
        paths.retain(|path| is_shard(path) && path.is_file());
        paths.sort();
        return Ok(paths);
    }
    if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
        return Err(Error::data_set(name, "a compressed tar file cannot be read at any place; unpack the gzip layer"));
    }
    match braces(&name) {
        Some(paths) => Ok(paths?),
        None if is_shard(location) && location.is_file() => Ok(vec![location.into()]),
        None => Ok(Vec::new()),
    }
}

/// `a-{08..11}.tar` as `a-08.tar` … `a-11.tar`.
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

/// The samples of one tar file.
fn read_shard(path: &Path) -> Result<Shard> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let bytes = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut shard = Shard { file: name, bytes, ..Shard::default() };
    scan(BufReader::new(file), &mut shard).map_err(|reason| Error::data_set(path.display().to_string(), reason))?;
    Ok(shard)
}

/// A sample whose files are still coming.
#[derive(Default)]
struct Open {
    key: String,
    picture: Option<(u64, u32)>,
    label: Option<u32>,
}

fn scan(source: impl Read + std::io::Seek, shard: &mut Shard) -> std::result::Result<(), String> {
    let broken = |e: std::io::Error| format!("it is cut short or not a tar file ({e})");
    let mut archive = Archive::new(source);
    let mut open = Open::default();
    for (number, entry) in archive.entries_with_seek().map_err(broken)?.enumerate() {
        if number == MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        check_path(&path)?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Symlink | EntryType::Link => return Err(format!("its entry {} is a link", path.display())),
            _ => continue,
        }
        let end = entry.raw_file_position().checked_add(entry.size());
        if end.is_none_or(|end| end > shard.bytes) || entry.size() > MOST_ENTRY_BYTES {
            return Err(format!("its entry {} is cut short or larger than {MOST_ENTRY_BYTES} bytes", path.display()));
        }
        let (key, ending) = split_name(&path);
        if key != open.key {
            shard.close(std::mem::take(&mut open));
            open.key = key;
        }
        if ENDINGS.contains(&ending.as_str()) {
            open.picture = Some((entry.raw_file_position(), entry.size() as u32));
        } else if ending == "cls" {
            open.label = Some(label(&mut entry, &path)?);
        }
    }
    shard.close(open);
    Ok(())
}

impl Shard {
    /// Adds a sample; one without a picture is none.
    fn close(&mut self, sample: Open) {
        if let Some((offset, length)) = sample.picture {
            self.keys.push(sample.key);
            self.offsets.push(offset);
            self.lengths.push(length);
            self.labels.push(sample.label);
        }
    }
}

/// No name may lead out of a folder, although nothing is unpacked: such an archive is not what it says.
fn check_path(path: &Path) -> std::result::Result<(), String> {
    match path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        true => Ok(()),
        false => Err(format!("its entry {} leads out of the folder", path.display())),
    }
}

/// The name up to the first dot, with its folders, and what comes after the last one, in lower case.
fn split_name(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.split('.').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).unwrap_or_default();
    (path.with_file_name(stem).to_string_lossy().into_owned(), ending)
}

fn label(entry: &mut Entry<impl Read>, path: &Path) -> std::result::Result<u32, String> {
    let mut text = String::new();
    let wrong = || format!("its entry {} is not a class number below {LARGEST_CLASS}", path.display());
    entry.take(LONGEST_LABEL).read_to_string(&mut text).map_err(|_| wrong())?;
    text.trim().parse().ok().filter(|&label| label < LARGEST_CLASS).ok_or_else(wrong)
}
