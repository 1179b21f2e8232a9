//! Packing of a data set.

use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use serde::{Deserialize, Serialize};

use super::{END, Entry, Header, MAGIC, VERSION};
use crate::dataset::Dataset;
use crate::hashed_file::HashedFile;
use crate::image::{Image, Size};
use crate::resample::{Filter, resize, shorter_side};
use crate::{Error, Result};

/// Storage of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Decoded: fastest to read, height × width × 3 bytes each.
    Raw,
    /// PNG, lossless.
    Png,
    /// JPEG, lossy.
    Jpeg {
        /// Quality from 1 to 100.
        quality: u8,
    },
}

/// Settings for packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackConfig {
    /// Length in pixels to which the shorter side of larger images is resized (bicubic); `None` keeps all sizes.
    pub resize: Option<usize>,
    /// Storage of images.
    pub storage: Storage,
    /// Number of threads that decode and encode.
    pub threads: usize,
}

/// Result of packing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackSummary {
    /// Number of images in the file.
    pub images: usize,
    /// Key and reason for each image that did not decode.
    pub left_out: Vec<(String, String)>,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Checksum of the file, in hexadecimal digits.
    pub fingerprint: String,
}

/// Number of images that a thread processes at a time.
const CHUNK: usize = 32;

/// An encoded image.
struct Packed {
    index: usize,
    size: Size,
    bytes: Vec<u8>,
}

/// Packs all images of `source` that decode, in order and with their labels, into one file at `path`.
///
/// `progress` receives the number of processed images. The file appears when it is complete.
///
/// # Errors
///
/// If no image decodes, the source cannot be read, or the file cannot be written.
pub fn pack(
    source: &dyn Dataset,
    path: &Path,
    config: &PackConfig,
    progress: &mut dyn FnMut(usize),
) -> Result<PackSummary> {
    let mut file = HashedFile::create(path)?;
    let header = Header {
        name: source.name().into(),
        tasks: source.tasks().to_vec(),
        notice: source.notice().map(str::to_owned),
        storage: config.storage,
        source_fingerprint: source.fingerprint()?,
    };
    let header = serde_json::to_vec(&header).map_err(|e| Error::Config(e.to_string()))?;
    file.write(MAGIC)?;
    file.write(&VERSION.to_le_bytes())?;
    file.write(&(header.len() as u32).to_le_bytes())?;
    file.write(&header)?;
    let (mut entries, mut keys, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let threads = config.threads.max(1);
    for start in (0..source.len()).step_by(CHUNK * threads) {
        let end = (start + CHUNK * threads).min(source.len());
        for prepared in in_threads(source, start..end, config, threads) {
            match prepared {
                Err(Error::Image { key, reason }) => left_out.push((key, reason)),
                Err(other) => return Err(other),
                Ok(image) => {
                    entries.push(entry(source, &image, file.written(), &mut keys));
                    file.write(&image.bytes)?;
                }
            }
        }
        progress(end);
    }
    if entries.is_empty() {
        return Err(Error::data_set(source.name(), "none of its images can be decoded"));
    }
    let index = file.written();
    entries.iter().try_for_each(|entry| file.write(&entry.to_bytes()))?;
    let keys_offset = file.written();
    file.write(&keys)?;
    for number in [index, keys_offset, entries.len() as u64] {
        file.write(&number.to_le_bytes())?;
    }
    let checksum = file.digest();
    file.write(&checksum)?;
    file.write(END)?;
    let bytes = file.written();
    file.commit()?;
    Ok(PackSummary { images: entries.len(), left_out, bytes, fingerprint: crate::hexadecimal(&checksum) })
}

/// Prepares the images of a range in several threads; the results are in order.
fn in_threads(
    source: &dyn Dataset,
    range: std::ops::Range<usize>,
    config: &PackConfig,
    threads: usize,
) -> Vec<Result<Packed>> {
    let share = range.len().div_ceil(threads).max(1);
    let shares = range.clone().step_by(share).map(|start| start..(start + share).min(range.end));
    std::thread::scope(|scope| {
        let work =
            |share: std::ops::Range<usize>| share.map(|index| prepare(source, index, config)).collect::<Vec<_>>();
        let running: Vec<_> = shares.map(|share| scope.spawn(move || work(share))).collect();
        let failed = |_| vec![Err(Error::Config("a packing thread failed".into()))];
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_else(failed)).collect()
    })
}

fn prepare(source: &dyn Dataset, index: usize, config: &PackConfig) -> Result<Packed> {
    let mut image = source.image(index)?;
    let shorter = image.size().height.min(image.size().width);
    if let Some(side) = config.resize.filter(|&side| side < shorter) {
        image = resize(&image, shorter_side(image.size(), side), Filter::Bicubic);
    }
    let size = image.size();
    let bytes = match config.storage {
        Storage::Raw => image.into_pixels(),
        Storage::Png => image.encode_png()?,
        Storage::Jpeg { quality } => jpeg(&image, quality)?,
    };
    match u32::try_from(bytes.len()) {
        Ok(_) => Ok(Packed { index, size, bytes }),
        Err(_) => Err(Error::Image { key: source.key(index), reason: "it is larger than 4 GiB".into() }),
    }
}

fn jpeg(image: &Image, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (width, height) = (image.size().width as u32, image.size().height as u32);
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(image.pixels(), width, height, image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::Config(format!("cannot encode an image as JPEG: {e}")))?;
    Ok(bytes)
}

fn entry(source: &dyn Dataset, image: &Packed, offset: u64, keys: &mut Vec<u8>) -> Entry {
    let key = source.key(image.index);
    let key_offset = keys.len() as u64;
    keys.extend_from_slice(key.as_bytes());
    let label = |task: usize| source.label(task, image.index).and_then(|label| i32::try_from(label).ok());
    Entry {
        offset,
        length: image.bytes.len() as u32,
        size: image.size,
        key_offset,
        key_length: key.len() as u32,
        labels: (0..source.tasks().len()).map(|task| label(task).unwrap_or(-1)).collect(),
    }
}

impl Entry {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.offset.to_le_bytes().to_vec();
        for number in [self.length, self.size.height as u32, self.size.width as u32] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.key_offset.to_le_bytes());
        bytes.extend(self.key_length.to_le_bytes());
        bytes.extend(self.labels.iter().flat_map(|label| label.to_le_bytes()));
        bytes
    }
}
