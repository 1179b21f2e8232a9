//! Samples of a tar file: members are grouped by their keys, whatever their order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use serde_json::Value;
use tar::{Archive, Entry, EntryType};

use super::locate::check_uncompressed;
use super::naming::Naming;
use super::shard::{MOST_ENTRY_BYTES, Shard};
use crate::dataset::MOST_CLASSES;
use crate::dataset::values::{Column, ColumnBuilder};
use crate::{Error, Result};

/// Upper limit of the number of entries of a shard.
const MOST_ENTRIES: usize = 10_000_000;
/// Longest name of a class, and longest value of a field, in bytes.
const LONGEST_LABEL: usize = 64;
/// Longest JSON member that is parsed, in bytes, and upper limit of the number of fields.
const LONGEST_JSON: u64 = 1 << 20;
const MOST_COLUMNS: usize = 64;
/// Upper limit of the number of suffixes that are counted separately.
const MOST_ENDINGS: usize = 1000;

type Scan<T> = std::result::Result<T, String>;

/// Number of members by suffix.
#[derive(Clone, Debug, Default)]
pub(super) struct Endings(pub BTreeMap<String, usize>);

impl Endings {
    pub fn count(&mut self, ending: String) {
        let known = self.0.len() < MOST_ENDINGS || self.0.contains_key(&ending);
        *self.0.entry(if known { ending } else { "others".into() }).or_default() += 1;
    }
}

/// Numbers of members of a tar file by the text after the first dot of their names.
pub(super) fn endings(path: &Path) -> Result<BTreeMap<String, usize>> {
    let mut endings = Endings::default();
    walk(path, &mut |_, name| {
        endings.count(Naming::Plain.split(name).1);
        Ok(())
    })?;
    Ok(endings.0)
}

/// Callback for each file in a tar file, with its path.
type Visit<'a> = dyn FnMut(&mut Entry<BufReader<File>>, &Path) -> Scan<()> + 'a;

/// Visits every file in a tar file; rejects archives that no writer of shards creates.
fn walk(path: &Path, visit: &mut Visit) -> Result<u64> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let bytes = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let walked = check_uncompressed(&mut file).and_then(|()| entries(file, bytes, visit));
    walked.map_err(|reason| Error::data_set(path.display().to_string(), reason))?;
    Ok(bytes)
}

fn entries(mut file: File, bytes: u64, visit: &mut Visit) -> Scan<()> {
    let broken = |e: std::io::Error| format!("it is cut short or not a tar file ({e})");
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let mut archive = Archive::new(BufReader::new(file));
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
        if end.is_none_or(|end| end > bytes) || entry.size() > MOST_ENTRY_BYTES {
            return Err(format!("its entry {} is cut short or larger than {MOST_ENTRY_BYTES} bytes", path.display()));
        }
        visit(&mut entry, &path)?;
    }
    Ok(())
}

/// Rejects a path that leads out of the folder. Nothing is unpacked, but such an archive is suspicious.
fn check_path(path: &Path) -> Scan<()> {
    match path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        true => Ok(()),
        false => Err(format!("its entry {} leads out of the folder", path.display())),
    }
}

/// Adjacent members with the same key.
#[derive(Default)]
struct Members {
    key: String,
    image: Option<(u64, u32)>,
    label: Option<String>,
    values: Vec<(String, String)>,
}

/// State collected over all shards.
#[derive(Default)]
pub(super) struct Scanner {
    /// Columns of plain values, by the name of their field.
    columns: BTreeMap<String, ColumnBuilder>,
    /// Fields with too many values for labels.
    dropped: HashSet<String>,
    /// Number of samples so far.
    samples: usize,
    /// Members that are images, and members that are neither images nor labels.
    pub images: Endings,
    pub left_alone: Endings,
    /// Number of samples in which another image replaced the previous one.
    pub replaced: usize,
    /// Number of keys with a label but no image, and the first of them.
    pub without_image: usize,
    pub first_without_image: Option<String>,
}

/// State of the shard that is being read.
struct Open<'a> {
    scanner: &'a mut Scanner,
    shard: Shard,
    labels: Vec<Option<String>>,
    /// Index of the last sample with each key.
    places: HashMap<String, usize>,
    /// Labels whose images have not been read yet.
    waiting: HashMap<String, Members>,
}

impl Scanner {
    /// Reads a tar file: its samples, and the texts of their labels.
    pub fn shard(&mut self, path: &Path, naming: &Naming) -> Result<(Shard, Vec<Option<String>>)> {
        let shard = Shard { file: path.file_name().unwrap_or_default().into(), ..Shard::default() };
        let (labels, places, waiting) = Default::default();
        let mut open = Open { scanner: self, shard, labels, places, waiting };
        let mut members = Members::default();
        let bytes = walk(path, &mut |entry, name| {
            let (key, ending) = naming.split(name);
            if key != members.key {
                open.close(std::mem::take(&mut members))?;
                members.key = key;
            }
            open.member(&mut members, entry, name, (ending, naming))
        })?;
        let wrong = |reason: String| Error::data_set(path.display().to_string(), reason);
        open.close(members).map_err(wrong)?;
        let Open { mut shard, labels, waiting, .. } = open;
        shard.bytes = bytes;
        self.samples += shard.offsets.len();
        let mut without: Vec<String> = waiting.into_values().filter(|m| m.label.is_some()).map(|m| m.key).collect();
        without.sort_unstable();
        self.without_image += without.len();
        self.first_without_image = self.first_without_image.take().or(without.into_iter().next());
        Ok((shard, labels))
    }

    /// Returns the columns of all shards.
    pub fn columns(self) -> BTreeMap<String, Column> {
        let samples = self.samples;
        let finish = |(name, mut column): (String, ColumnBuilder)| {
            column.fill(samples);
            (name, column.finish())
        };
        self.columns.into_iter().map(finish).collect()
    }

    fn set(&mut self, sample: usize, name: String, value: &str) {
        if self.dropped.contains(&name) || (self.columns.len() == MOST_COLUMNS && !self.columns.contains_key(&name)) {
            return;
        }
        let column = self.columns.entry(name.clone()).or_default();
        column.set(sample, value);
        if column.different() > MOST_CLASSES {
            self.columns.remove(&name);
            self.dropped.insert(name);
        }
    }
}

impl Open<'_> {
    fn member(
        &mut self,
        members: &mut Members,
        entry: &mut Entry<BufReader<File>>,
        name: &Path,
        (ending, naming): (String, &Naming),
    ) -> Scan<()> {
        if naming.is_image(&ending) {
            self.scanner.images.count(ending);
            self.scanner.replaced += usize::from(members.image.is_some());
            members.image = Some((entry.raw_file_position(), entry.size() as u32));
        } else if ending == "cls" {
            members.label = Some(label(entry, name)?);
        } else if ending == "json" && entry.size() <= LONGEST_JSON {
            members.values.extend(fields(entry));
        } else {
            self.scanner.left_alone.count(ending);
        }
        Ok(())
    }

    /// Adds adjacent members: a sample, or labels of a sample before or after them.
    fn close(&mut self, mut members: Members) -> Scan<()> {
        let Some((offset, length)) = members.image else {
            if members.label.is_none() && members.values.is_empty() {
                return Ok(());
            }
            return match self.places.get(&members.key) {
                Some(&place) => self.describe(place, members),
                None => self.wait(members),
            };
        };
        let place = self.shard.offsets.len();
        self.shard.keys.push(members.key.clone());
        self.shard.offsets.push(offset);
        self.shard.lengths.push(length);
        self.labels.push(members.label.take());
        self.places.insert(members.key.clone(), place);
        let waiting = self.waiting.remove(&members.key);
        self.describe(place, members)?;
        waiting.map_or(Ok(()), |waiting| self.describe(place, waiting))
    }

    fn wait(&mut self, members: Members) -> Scan<()> {
        let waiting = self.waiting.entry(members.key.clone()).or_default();
        waiting.key = members.key;
        waiting.values.extend(members.values);
        one_label(&waiting.key, &mut waiting.label, members.label)
    }

    /// Adds the labels of non-adjacent members to a sample.
    fn describe(&mut self, place: usize, members: Members) -> Scan<()> {
        for (name, value) in members.values {
            self.scanner.set(self.scanner.samples + place, name, &value);
        }
        one_label(&members.key, &mut self.labels[place], members.label)
    }
}

fn one_label(key: &str, known: &mut Option<String>, other: Option<String>) -> Scan<()> {
    match (known.as_ref(), other) {
        (Some(known), Some(other)) if *known != other => {
            Err(format!("its sample {key} has two classes, {known} and {other}; leave one .cls member"))
        }
        (None, Some(other)) => {
            *known = Some(other);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Class of a sample: an integer or a string.
fn label(entry: &mut Entry<impl Read>, path: &Path) -> Scan<String> {
    let mut text = String::new();
    let wrong =
        || format!("its entry {} is not a class: a number or a word of at most {LONGEST_LABEL} bytes", path.display());
    entry.take(LONGEST_LABEL as u64 + 1).read_to_string(&mut text).map_err(|_| wrong())?;
    let fits = text.len() <= LONGEST_LABEL && !text.trim().is_empty();
    if fits { Ok(text.trim().to_owned()) } else { Err(wrong()) }
}

/// Fields of a JSON object that may be labels: short strings, integers and booleans. Empty for any other content.
fn fields(entry: &mut Entry<impl Read>) -> Vec<(String, String)> {
    let mut bytes = Vec::new();
    if entry.take(LONGEST_JSON).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let Ok(Value::Object(object)) = serde_json::from_slice(&bytes) else { return Vec::new() };
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    };
    let kept = |text: &String| !text.is_empty() && text.len() <= LONGEST_LABEL;
    object
        .into_iter()
        .filter(|(name, _)| kept(name))
        .filter_map(|(name, value)| Some((name, text(value).filter(kept)?)))
        .collect()
}
