//! The packed format: one memory-mapped file of pictures, decoded or encoded, with their labels, an index and a
//! checksum.
//!
//! ```text
//! "EQUIPACK" · version u32 · length of the header u32 · header (JSON) · pictures one after the other
//! index: for each picture offset u64, length u32, height u32, width u32, offset and length of its key u64, u32,
//!        one i32 a task (−1: not part of it) · keys
//! trailer: offset of the index u64 · offset of the keys u64 · number of pictures u64 · SHA-256 of all before · "EQUIPEND"
//! ```
//! Numbers are little endian. A decoded picture is height × width × 3 bytes.

mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::mapped::Mapped;
use crate::{Error, Result};

pub use write::{PackConfig, PackSummary, Storage, pack};

const MAGIC: &[u8; 8] = b"EQUIPACK";
const END: &[u8; 8] = b"EQUIPEND";
const VERSION: u32 = 1;
/// Bytes of the trailer: three numbers, the checksum, the mark.
const TRAILER: usize = 3 * 8 + 32 + 8;
/// Bytes of an index entry without labels.
const ENTRY: usize = 32;
/// Longest header, in bytes, and most tasks.
const LONGEST_HEADER: usize = 1 << 26;
const MOST_TASKS: usize = 64;

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    name: String,
    tasks: Vec<Task>,
    notice: Option<String>,
    storage: Storage,
    /// Of the data set that was packed.
    source_fingerprint: String,
}

/// An index entry.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    offset: u64,
    length: u32,
    size: Size,
    key_offset: u64,
    key_length: u32,
    labels: Vec<i32>,
}

/// A packed file. Memory use does not depend on its size.
pub struct PackedDataset {
    name: String,
    map: Mapped,
    header: Header,
    index: usize,
    keys: usize,
    count: usize,
}

impl PackedDataset {
    /// Whether a file begins like a packed one.
    pub fn is_at(path: &Path) -> bool {
        use std::io::Read;
        let mut start = [0; 8];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == MAGIC
    }

    /// Opens a file; its frame is checked, its checksum only by [`verify`](Self::verify).
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let map = Mapped::open(path)?;
        let frame = frame(&map).map_err(|reason| Error::data_set(&name, reason))?;
        let (header, index, keys, count) = frame;
        Ok(Self { name, map, header, index, keys, count })
    }

    /// Compares the checksum with the content, and looks at every index entry.
    pub fn verify(&self) -> Result<()> {
        let content = self.map.len() - 40;
        let found = Sha256::digest(&self.map[..content]);
        if found[..] != self.map[content..content + 32] {
            return Err(Error::data_set(&self.name, "its checksum is wrong: it was damaged; pack it again"));
        }
        (0..self.count).try_for_each(|index| self.bytes(index).map(|_| ()))
    }

    fn entry(&self, index: usize) -> Result<Entry> {
        if index >= self.count {
            return Err(Error::data_set(&self.name, format!("it has no picture {index}")));
        }
        let length = ENTRY + 4 * self.header.tasks.len();
        let bytes = &self.map[self.index + index * length..][..length];
        let size = Size { height: number(&bytes[12..16]) as usize, width: number(&bytes[16..20]) as usize };
        Ok(Entry {
            offset: number(&bytes[0..8]),
            length: number(&bytes[8..12]) as u32,
            size,
            key_offset: number(&bytes[20..28]),
            key_length: number(&bytes[28..32]) as u32,
            labels: bytes[ENTRY..].as_chunks::<4>().0.iter().map(|label| i32::from_le_bytes(*label)).collect(),
        })
    }

    /// The entry and the bytes of a picture.
    fn bytes(&self, index: usize) -> Result<(Entry, &[u8])> {
        let entry = self.entry(index)?;
        let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(entry.length as usize).filter(|&end| end <= self.index);
        match bytes.and_then(|end| self.map.get(start..end)) {
            Some(bytes) => Ok((entry, bytes)),
            None => {
                Err(Error::Picture { key: self.key(index), reason: "its index entry leads out of the file".into() })
            }
        }
    }
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

/// Header, offsets of index and keys, and number of pictures, consistent with each other and the file's length.
fn frame(map: &[u8]) -> std::result::Result<(Header, usize, usize, usize), String> {
    const CUT: &str = "it is cut short or not a packed file; pack it again";
    if map.len() < 16 + TRAILER || &map[..8] != MAGIC || &map[map.len() - 8..] != END {
        return Err(CUT.into());
    }
    let version = number(&map[8..12]);
    if version != u64::from(VERSION) {
        return Err(format!("it has version {version} of the packed format, this program reads {VERSION}"));
    }
    let length = number(&map[12..16]) as usize;
    let header = map.get(16..16 + length).filter(|_| length <= LONGEST_HEADER).ok_or(CUT)?;
    let header: Header = serde_json::from_slice(header).map_err(|e| format!("its header cannot be read: {e}"))?;
    if header.tasks.len() > MOST_TASKS {
        return Err(format!("it has {} label columns, more than {MOST_TASKS}", header.tasks.len()));
    }
    let trailer = map.len() - TRAILER;
    let place = |k: usize| usize::try_from(number(&map[trailer + 8 * k..][..8])).unwrap_or(usize::MAX);
    let (index, keys, count) = (place(0), place(1), place(2));
    let entries = count.checked_mul(ENTRY + 4 * header.tasks.len()).and_then(|length| length.checked_add(index));
    if index < 16 + length || entries != Some(keys) || keys > trailer || count == 0 {
        return Err(CUT.into());
    }
    Ok((header, index, keys, count))
}

impl Dataset for PackedDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.count
    }

    fn image(&self, index: usize) -> Result<Image> {
        let (entry, bytes) = self.bytes(index)?;
        match self.header.storage {
            Storage::Raw => Image::new(entry.size, bytes.to_vec())
                .map_err(|e| Error::Picture { key: self.key(index), reason: e.to_string() }),
            Storage::Png | Storage::Jpeg { .. } => Image::decode(bytes, &self.key(index)),
        }
    }

    fn size(&self, index: usize) -> Result<Size> {
        let size = self.entry(index)?.size;
        match size.is_sound() {
            true => Ok(size),
            false => {
                Err(Error::Picture { key: self.key(index), reason: format!("its index entry says {size} pixels") })
            }
        }
    }

    fn tasks(&self) -> &[Task] {
        &self.header.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        let label = u32::try_from(*self.entry(index).ok()?.labels.get(task)?).ok()?;
        ((label as usize) < self.header.tasks[task].classes.len()).then_some(label)
    }

    /// The key that the picture had where it was packed from.
    fn key(&self, index: usize) -> String {
        let keys = &self.map[self.keys..self.map.len() - TRAILER];
        let key = self.entry(index).ok().and_then(|entry| {
            let start = usize::try_from(entry.key_offset).ok()?;
            keys.get(start..start.checked_add(entry.key_length as usize)?)
        });
        key.map_or_else(|| format!("{}, picture {index}", self.name), |key| String::from_utf8_lossy(key).into_owned())
    }

    fn notice(&self) -> Option<&str> {
        self.header.notice.as_deref()
    }

    fn will_need(&self, indices: &[usize]) {
        for entry in indices.iter().filter_map(|&index| self.entry(index).ok()) {
            if let Ok(start) = usize::try_from(entry.offset) {
                self.map.will_need(start..start.saturating_add(entry.length as usize));
            }
        }
    }

    /// The checksum in the trailer.
    fn fingerprint(&self) -> Result<String> {
        let end = self.map.len() - 8;
        Ok(crate::hexadecimal(&self.map[end - 32..end]))
    }
}
