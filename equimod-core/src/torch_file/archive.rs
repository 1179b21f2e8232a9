//! The zip archive of PyTorch 1.6 and later, read by its central directory.
//!
//! PyTorch pads each local header to align the storages; the padding is skipped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read as _;

use rawzip::{CompressionMethod, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive};

use super::fault::{Fault, Read, not_read};

/// A zip archive in memory.
pub struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipSliceArchive<&'a [u8]>,
    entries: HashMap<Vec<u8>, (ZipArchiveEntryWayfinder, CompressionMethod)>,
    /// Entry names in the order of the central directory.
    names: Vec<Vec<u8>>,
}

impl<'a> Archive<'a> {
    /// Reads the central directory.
    ///
    /// # Errors
    ///
    /// If the archive is truncated, damaged or not supported.
    pub fn open(bytes: &'a [u8]) -> Read<Self> {
        let zip = ZipArchive::from_slice(bytes).map_err(|e| match e.kind() {
            rawzip::ErrorKind::MissingEndOfCentralDirectory | rawzip::ErrorKind::Eof => {
                Fault::Truncated("the end of its zip archive is missing".into())
            }
            _ => Fault::Damaged(format!("its zip archive: {e}")),
        })?;
        let (mut entries, mut names) = (HashMap::new(), Vec::new());
        for entry in zip.entries() {
            let entry = entry.map_err(|e| Fault::Damaged(format!("the directory of its zip archive: {e}")))?;
            let name = entry.file_path().as_ref().to_vec();
            names.push(name.clone());
            // Of several entries with one name, readers take the first.
            entries.entry(name).or_insert((entry.wayfinder(), entry.compression_method()));
        }
        Ok(Self { bytes, zip, entries, names })
    }

    /// The first name that satisfies `wanted`; `None` if there is none.
    pub fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<&str> {
        self.names.iter().filter_map(|name| std::str::from_utf8(name).ok()).find(|name| wanted(name))
    }

    /// Content of an entry, verified by its length and its CRC-32.
    ///
    /// # Errors
    ///
    /// If there is no such entry, or it is damaged or not supported.
    pub fn read(&self, name: &str) -> Read<Cow<'a, [u8]>> {
        let Some((wayfinder, method)) = self.entries.get(name.as_bytes()) else {
            return not_read(format!("it holds no {name}"));
        };
        let entry = self.zip.get_entry(*wayfinder).map_err(|e| Fault::Damaged(format!("{name}: {e}")))?;
        let (start, end) = entry.compressed_data_range();
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let stored = range.and_then(|(start, end)| self.bytes.get(start..end));
        let Some(stored) = stored else { return Err(Fault::Truncated(format!("{name} is not whole"))) };
        let expected = entry.claim_verifier();
        let content = match *method {
            CompressionMethod::STORE => Cow::Borrowed(stored),
            CompressionMethod::DEFLATE => Cow::Owned(inflated(stored, expected.uncompressed_size, name)?),
            other => return not_read(format!("{name} is compressed by {other}, which PyTorch does not write")),
        };
        if content.len() as u64 != expected.uncompressed_size {
            let text = format!("{name} has {} bytes in place of {}", content.len(), expected.uncompressed_size);
            return Err(Fault::Damaged(text));
        }
        // `torch.serialization.set_crc32_options(False)` writes zeros instead of checksums.
        if expected.crc != 0 && crc32fast::hash(&content) != expected.crc {
            return Err(Fault::Damaged(format!("the checksum of {name} differs from its content")));
        }
        Ok(content)
    }
}

/// Bytes of a compressed entry, at most one more than its declared length.
fn inflated(stored: &[u8], size: u64, name: &str) -> Read<Vec<u8>> {
    let mut content = Vec::new();
    let mut decoder = flate2::bufread::DeflateDecoder::new(stored).take(size.saturating_add(1));
    let read = decoder.read_to_end(&mut content);
    read.map_err(|e| Fault::Damaged(format!("{name} does not decompress: {e}")))?;
    Ok(content)
}
