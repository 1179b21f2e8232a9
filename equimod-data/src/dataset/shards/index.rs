//! Where every sample of the shards is.

use std::collections::BTreeSet;
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
const VERSION: u32 = 2;

/// The samples of all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// Names of classes, where labels are words; numbers name themselves.
    pub classes: Vec<String>,
    pub shards: Vec<Shard>,
}

/// The samples of a shard, column by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shard {
    /// The file, from the index's folder.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    pub keys: Vec<String>,
    /// Of the picture in the file.
    pub offsets: Vec<u64>,
    pub lengths: Vec<u32>,
    pub labels: Vec<Option<u32>>,
}

/// Reads every header of the shards at `location` and writes the index beside them, or into `out`, which is a source
/// then; returns its path and the number of samples. Nothing is unpacked.
pub fn index_shards(location: &Path, out: Option<&Path>, progress: &mut dyn FnMut(usize)) -> Result<(PathBuf, usize)> {
    let paths = shard_paths(location)?;
    if paths.is_empty() {
        let reason = "there is no such tar file, nor a folder or a pattern of some";
        return Err(Error::data_set(location.display().to_string(), reason));
    }
    let (mut shards, mut texts) = (Vec::new(), Vec::new());
    for path in &paths {
        let (mut shard, labels) = read_shard(path)?;
        if out.is_some() {
            shard.file = path.canonicalize().map_err(|e| Error::io(path, e))?;
        }
        texts.push(labels);
        shards.push(shard);
        progress(shards.len());
    }
    let samples = shards.iter().map(|shard| shard.offsets.len()).sum();
    if samples == 0 {
        return Err(Error::data_set(location.display().to_string(), "its tar files hold no pictures"));
    }
    let classes = classes(&texts);
    for (shard, texts) in shards.iter_mut().zip(&texts) {
        shard.labels = texts.iter().map(|text| number(text.as_deref()?, &classes)).collect();
    }
    let path = out.map_or_else(|| index_path(location), Path::to_owned);
    let mut file = HashedFile::create(&path)?;
    file.write(&Index { version: VERSION, classes, shards }.to_json()?)?;
    file.commit()?;
    Ok((path, samples))
}

/// The words among the labels, sorted; none where all are numbers of classes.
fn classes(texts: &[Vec<Option<String>>]) -> Vec<String> {
    let all = || texts.iter().flatten().flatten();
    let is_number = |text: &String| text.parse().is_ok_and(|label: u32| label < LARGEST_CLASS);
    if all().all(is_number) {
        return Vec::new();
    }
    let words: BTreeSet<&String> = all().collect();
    words.into_iter().cloned().collect()
}

fn number(text: &str, classes: &[String]) -> Option<u32> {
    match classes {
        [] => text.parse().ok(),
        words => words.binary_search_by(|word| word.as_str().cmp(text)).ok().map(|place| place as u32),
    }
}

impl Index {
    /// The index of `location`, if there is one.
    pub fn read(location: &Path) -> Result<Option<Self>> {
        let path = if is_index(location) { location.to_owned() } else { index_path(location) };
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| Error::io(&path, e))?,
        };
        let index: Self = serde_json::from_slice(&bytes).map_err(|e| {
            let text = format!("it is not an index of tar files ({e}); remove it and run `equimod data index`");
            Error::data_set(path.display().to_string(), text)
        })?;
        if index.version != VERSION {
            let text = format!(
                "it has version {}, this program reads {VERSION}; run `equimod data index` again",
                index.version
            );
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
            return Err(format!("the columns of {} differ in length", self.file.display()));
        }
        let inside = |(&offset, &length): (&u64, &u32)| {
            u64::from(length) <= MOST_ENTRY_BYTES
                && offset.checked_add(u64::from(length)).is_some_and(|end| end <= self.bytes)
        };
        if !self.offsets.iter().zip(&self.lengths).all(inside) {
            return Err(format!("an entry leads out of {}", self.file.display()));
        }
        match self.labels.iter().flatten().all(|&label| label < LARGEST_CLASS) {
            true => Ok(()),
            false => Err(format!("a class of {} is too large", self.file.display())),
        }
    }
}

/// Whether a path is that of an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with("index.json") && path.is_file()
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

/// The samples of one tar file, and the texts of their labels.
fn read_shard(path: &Path) -> Result<(Shard, Vec<Option<String>>)> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let bytes = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let name = path.file_name().unwrap_or_default().into();
    let mut shard = Shard { file: name, bytes, ..Shard::default() };
    let labels = scan(BufReader::new(file), &mut shard);
    Ok((shard, labels.map_err(|reason| Error::data_set(path.display().to_string(), reason))?))
}

/// A sample whose files are still coming.
#[derive(Default)]
struct Open {
    key: String,
    picture: Option<(u64, u32)>,
    label: Option<String>,
}

fn scan(source: impl Read + std::io::Seek, shard: &mut Shard) -> std::result::Result<Vec<Option<String>>, String> {
    let mut labels = Vec::new();
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
            shard.close(std::mem::take(&mut open), &mut labels);
            open.key = key;
        }
        if ENDINGS.contains(&ending.as_str()) {
            open.picture = Some((entry.raw_file_position(), entry.size() as u32));
        } else if ending == "cls" {
            open.label = Some(label(&mut entry, &path)?);
        }
    }
    shard.close(open, &mut labels);
    Ok(labels)
}

impl Shard {
    /// Adds a sample; one without a picture is none.
    fn close(&mut self, sample: Open, labels: &mut Vec<Option<String>>) {
        if let Some((offset, length)) = sample.picture {
            self.keys.push(sample.key);
            self.offsets.push(offset);
            self.lengths.push(length);
            labels.push(sample.label);
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

/// The name up to the first dot, with its folders, and what comes after it, in lower case: of `7.jpg` and `7.mask.png`,
/// only the first is the picture.
fn split_name(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
    let ending = ending.to_lowercase();
    (path.with_file_name(stem).to_string_lossy().into_owned(), ending)
}

/// A number or a word.
fn label(entry: &mut Entry<impl Read>, path: &Path) -> std::result::Result<String, String> {
    let mut text = String::new();
    let wrong =
        || format!("its entry {} is not a class: a number or a word of at most {LONGEST_LABEL} bytes", path.display());
    entry.take(LONGEST_LABEL + 1).read_to_string(&mut text).map_err(|_| wrong())?;
    let fits = text.len() as u64 <= LONGEST_LABEL && !text.trim().is_empty();
    if fits { Ok(text.trim().to_owned()) } else { Err(wrong()) }
}
