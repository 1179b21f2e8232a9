//! Index of shards: the position of every sample.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::locate::{index_path, is_index, shard_paths};
use super::naming::Naming;
use super::scan::{Scanner, endings};
use super::shard::{MOST_ENTRY_BYTES, Shard};
use crate::dataset::values::{Column, listed};
use crate::hashed_file::HashedFile;
use crate::{Error, Result};

/// Largest class number.
const LARGEST_CLASS: u32 = 1 << 20;
const VERSION: u32 = 2;

/// Samples of all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// Names of classes if labels are strings; empty if they are integers.
    pub classes: Vec<String>,
    pub shards: Vec<Shard>,
    /// Fields of the samples' JSON members, over all shards; an index of an earlier version has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Column>,
}

/// Settings for indexing shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexConfig {
    /// Path of the index; by default, next to the shards. The path can be used as a source.
    pub out: Option<PathBuf>,
    /// Suffix of the images after the first dot of their names, such as `input.jpg`. By default, `KEY.jpg` and the
    /// other formats, or the only longer suffix that occurs.
    pub image: Option<String>,
    /// Whether keys extend to the last dot of a name, instead of the first.
    pub dotted_keys: bool,
}

/// Result of indexing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Indexed {
    /// Path of the index.
    pub index: PathBuf,
    /// Number of tar files.
    pub shards: usize,
    /// Number of samples, each with an image.
    pub samples: usize,
    /// Number of samples with a `.cls` member.
    pub labeled: usize,
    /// Number of `.cls` members without an image in their shard.
    pub without_image: usize,
    /// Number of images that another image of the same sample replaced.
    pub replaced: usize,
    /// Number of images by suffix.
    pub images: BTreeMap<String, usize>,
    /// Number of ignored members by suffix.
    pub left_alone: BTreeMap<String, usize>,
    /// Indexed fields of JSON members, with the number of their different values.
    pub columns: BTreeMap<String, usize>,
}

/// Reads every header of the shards at `location` and writes the index. Nothing is unpacked; `progress` receives the
/// number of finished shards.
///
/// # Errors
///
/// If there are no shards or images, a tar file is damaged or malicious, names do not distinguish images, or no class
/// belongs to an image.
pub fn index_shards(location: &Path, config: &IndexConfig, progress: &mut dyn FnMut(usize)) -> Result<Indexed> {
    let wrong = |reason: String| Error::data_set(location.display().to_string(), reason);
    let paths = shard_paths(location)?;
    if paths.is_empty() {
        return Err(wrong("there is no such tar file, and no such folder or pattern of tar files".into()));
    }
    let naming = naming(&paths, config)?;
    let mut scanner = Scanner::default();
    let (mut shards, mut texts) = (Vec::new(), Vec::new());
    for path in &paths {
        let (mut shard, labels) = scanner.shard(path, &naming)?;
        if config.out.is_some() {
            shard.file = path.canonicalize().map_err(|e| Error::io(path, e))?;
        }
        texts.push(labels);
        shards.push(shard);
        progress(shards.len());
    }
    let samples = shards.iter().map(|shard| shard.offsets.len()).sum();
    if samples == 0 {
        return Err(wrong(format!("its tar files hold no images{}", found(&scanner))));
    }
    let labeled = texts.iter().flatten().flatten().count();
    if let (0, Some(key)) = (labeled, &scanner.first_without_image) {
        let (count, image) = (scanner.without_image, shards.iter().find_map(|shard| shard.keys.first()));
        return Err(wrong(format!(
            "none of its {count} classes (the first is {key}.cls) belongs to an image (the first is {}); members of a \
             sample must be in one shard and share their names up to the {} dot",
            image.map_or("", String::as_str),
            if naming == Naming::LastDot { "last" } else { "first" }
        )));
    }
    let classes = classes(&texts);
    for (shard, texts) in shards.iter_mut().zip(&texts) {
        shard.labels = texts.iter().map(|text| number(text.as_deref()?, &classes)).collect();
    }
    let path = config.out.clone().unwrap_or_else(|| index_path(location));
    let mut indexed = Indexed {
        index: path.clone(),
        shards: shards.len(),
        samples,
        labeled,
        without_image: scanner.without_image,
        replaced: scanner.replaced,
        images: std::mem::take(&mut scanner.images.0),
        left_alone: std::mem::take(&mut scanner.left_alone.0),
        columns: BTreeMap::new(),
    };
    let columns = scanner.columns();
    indexed.columns = columns.iter().map(|(name, column)| (name.clone(), column.different())).collect();
    let mut file = HashedFile::create(&path)?;
    file.write(&Index { version: VERSION, classes, shards, columns }.to_json()?)?;
    file.commit()?;
    Ok(indexed)
}

/// Naming of the shards' members: the configured one, or that of the first shard with images.
fn naming(paths: &[PathBuf], config: &IndexConfig) -> Result<Naming> {
    match &config.image {
        Some(_) if config.dotted_keys => {
            return Err(Error::Config("--image and --dotted-keys exclude each other; give one of them".into()));
        }
        Some(ending) => return Ok(Naming::Only(ending.trim_start_matches('.').to_lowercase())),
        None if config.dotted_keys => return Ok(Naming::LastDot),
        None => {}
    }
    for path in paths {
        let guessed = Naming::guess(&endings(path)?);
        if let Some(naming) = guessed.map_err(|reason| Error::data_set(path.display().to_string(), reason))? {
            return Ok(naming);
        }
    }
    Ok(Naming::Plain)
}

/// Members of shards without images, for a message.
fn found(scanner: &Scanner) -> String {
    let found = scanner.left_alone.0.iter().map(|(ending, count)| format!("{count} .{ending}"));
    match scanner.left_alone.0.is_empty() {
        true => String::new(),
        false => format!("; they hold {}", listed(found, 6)),
    }
}

/// Sorted class names among the labels; empty if all labels are integers.
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
    /// Reads the index of `location`, if there is one.
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

    fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::Config(e.to_string()))
    }

    /// Hash of the shards' names and lengths, and of every sample's key, position and class. It does not cover fields
    /// of JSON members, so that it equals the hash of an index of an earlier version without them.
    pub fn fingerprint(&self) -> Result<String> {
        let Self { version, classes, shards, .. } = self.clone();
        let plain = Self { version, classes, shards, columns: BTreeMap::new() };
        Ok(crate::hexadecimal(&Sha256::digest(plain.to_json()?)))
    }

    /// Checks that the columns have one row per sample.
    pub fn check_columns(&self) -> std::result::Result<(), String> {
        let samples: usize = self.shards.iter().map(|shard| shard.offsets.len()).sum();
        match self.columns.iter().find(|(_, column)| column.len() != samples || !column.is_whole()) {
            Some((name, _)) => Err(format!("the column {name} does not fit its samples")),
            None => Ok(()),
        }
    }
}

impl Shard {
    /// Checks that the columns match each other and the file.
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
