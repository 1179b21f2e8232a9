//! Packed format: one memory-mapped file with decoded or encoded images, their labels, an index and a checksum.
//!
//! ```text
//! "EQUIPACK" · version u32 · length of the header u32 · header (JSON) · contiguous images
//! index: for each image offset u64, length u32, height u32, width u32, offset and length of its key u64, u32,
//!        one i32 per task (−1: no label) · keys
//! trailer: offset of the index u64 · offset of the keys u64 · number of images u64 · SHA-256 of all before ·
//!          "EQUIPEND"
//! ```
//! Numbers are little-endian. A decoded image has height × width × 3 bytes.

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
/// Size of the trailer in bytes: three numbers, the checksum and the end mark.
const TRAILER: usize = 3 * 8 + 32 + 8;
/// Size of an index entry without labels, in bytes.
const ENTRY: usize = 32;
/// Limits: size of the header in bytes, and number of tasks.
const LONGEST_HEADER: usize = 1 << 26;
const MOST_TASKS: usize = 64;

/// JSON header of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    name: String,
    tasks: Vec<Task>,
    notice: Option<String>,
    storage: Storage,
    /// Fingerprint of the data set that was packed.
    source_fingerprint: String,
}

/// Index entry of one image.
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
    /// Whether a file starts with the mark of the packed format.
    pub fn is_at(path: &Path) -> bool {
        use std::io::Read;
        let mut start = [0; 8];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == MAGIC
    }

    /// Opens a file and checks its structure; only [`verify`](Self::verify) checks its checksum.
    ///
    /// # Errors
    ///
    /// If the file is not a packed file, damaged, or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let map = Mapped::open(path)?;
        let frame = frame(&map).map_err(|reason| Error::data_set(&name, reason))?;
        let (header, index, keys, count) = frame;
        Ok(Self { name, map, header, index, keys, count })
    }

    /// Checks the checksum of the file and every index entry.
    ///
    /// # Errors
    ///
    /// If the file is damaged.
    pub fn verify(&self) -> Result<()> {
        let content = self.map.len() - 40;
        let found = Sha256::digest(&self.map[..content]);
        if found[..] != self.map[content..content + 32] {
            return Err(Error::data_set(&self.name, "its checksum does not match: the file is damaged; pack it again"));
        }
        (0..self.count).try_for_each(|index| self.bytes(index).map(|_| ()))
    }

    fn entry(&self, index: usize) -> Result<Entry> {
        if index >= self.count {
            return Err(Error::data_set(&self.name, format!("it has no image {index}")));
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

    /// Index entry and bytes of an image.
    fn bytes(&self, index: usize) -> Result<(Entry, &[u8])> {
        let entry = self.entry(index)?;
        let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(entry.length as usize).filter(|&end| end <= self.index);
        match bytes.and_then(|end| self.map.get(start..end)) {
            Some(bytes) => Ok((entry, bytes)),
            None => Err(Error::Image { key: self.key(index), reason: "its index entry leaves the file".into() }),
        }
    }
}

/// Decodes a little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

/// Header, offsets of index and keys, and number of images, checked against each other and the length of the file.
fn frame(map: &[u8]) -> std::result::Result<(Header, usize, usize, usize), String> {
    const CUT: &str = "it is truncated or not a packed file; pack it again";
    if map.len() < 16 + TRAILER || &map[..8] != MAGIC || &map[map.len() - 8..] != END {
        return Err(CUT.into());
    }
    let version = number(&map[8..12]);
    if version != u64::from(VERSION) {
        return Err(format!("it has version {version} of the packed format, but this program reads version {VERSION}"));
    }
    let length = number(&map[12..16]) as usize;
    let header = map.get(16..16 + length).filter(|_| length <= LONGEST_HEADER).ok_or(CUT)?;
    let header: Header = serde_json::from_slice(header).map_err(|e| format!("cannot read its header: {e}"))?;
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
                .map_err(|e| Error::Image { key: self.key(index), reason: e.to_string() }),
            Storage::Png | Storage::Jpeg { .. } => Image::decode(bytes, &self.key(index)),
        }
    }

    fn size(&self, index: usize) -> Result<Size> {
        let size = self.entry(index)?.size;
        match size.is_sound() {
            true => Ok(size),
            false => Err(Error::Image {
                key: self.key(index),
                reason: format!("its index entry has the invalid size {size}"),
            }),
        }
    }

    fn tasks(&self) -> &[Task] {
        &self.header.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        let label = u32::try_from(*self.entry(index).ok()?.labels.get(task)?).ok()?;
        ((label as usize) < self.header.tasks[task].classes.len()).then_some(label)
    }

    /// Key of the image in the original data set.
    fn key(&self, index: usize) -> String {
        let keys = &self.map[self.keys..self.map.len() - TRAILER];
        let key = self.entry(index).ok().and_then(|entry| {
            let start = usize::try_from(entry.key_offset).ok()?;
            keys.get(start..start.checked_add(entry.key_length as usize)?)
        });
        key.map_or_else(|| format!("{}, image {index}", self.name), |key| String::from_utf8_lossy(key).into_owned())
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

    /// Checksum from the trailer.
    fn fingerprint(&self) -> Result<String> {
        let end = self.map.len() - 8;
        Ok(crate::hexadecimal(&self.map[end - 32..end]))
    }
}
