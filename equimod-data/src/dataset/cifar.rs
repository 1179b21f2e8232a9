//! CIFAR-10 and CIFAR-100, binary version. A record is one label (two for CIFAR-100) and 3072 bytes: the red, green and
//! blue planes of 32 × 32 pixels.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

use super::{Dataset, Split, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;
/// Limits on an archive: number of entries that are read, and number of decompressed bytes.
const MOST_ENTRIES: usize = 64;
const MOST_BYTES: u64 = 1 << 29;

const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Files and labels of one of the two data sets.
struct Layout {
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// Name, number of classes and file of class names of each task, in the order of a record's labels.
    tasks: &'static [(&'static str, usize, &'static str)],
}

const CIFAR10: Layout = Layout {
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: &["test_batch.bin"],
    tasks: &[("label", 10, "batches.meta.txt")],
};

const CIFAR100: Layout = Layout {
    train: &["train.bin"],
    test: &["test.bin"],
    tasks: &[("coarse_label", 20, "coarse_label_names.txt"), ("fine_label", 100, "fine_label_names.txt")],
};

/// CIFAR-10 or CIFAR-100, recognized by file names and held in memory (180 MB).
pub struct CifarDataset {
    name: String,
    records: Vec<u8>,
    tasks: Vec<Task>,
}

impl CifarDataset {
    /// Whether `path` is one of the two data sets: a folder with their files, or their archive.
    pub fn is_at(path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let archive = path.is_file() && name.starts_with("cifar-10") && name.ends_with(".tar.gz");
        archive || [CIFAR10.test[0], CIFAR100.test[0]].iter().any(|file| path.join(file).is_file()) || is_pickled(path)
    }

    /// Reads a split of the unpacked binary version, or of its `.tar.gz`.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or the data set is the Python version.
    pub fn open(path: &Path, split: Split) -> Result<Self> {
        let name = path.display().to_string();
        if is_pickled(path) {
            let reason = "it is the Python version with pickled objects; use the binary version";
            return Err(Error::data_set(name, reason));
        }
        let files = if path.is_dir() { Files::Folder(path.into()) } else { Files::Archive(unpack(path)?) };
        let layout = if files.has(CIFAR10.test[0]) { CIFAR10 } else { CIFAR100 };
        let mut records = Vec::new();
        let record = PIXELS + layout.tasks.len();
        for file in if split == Split::Train { layout.train } else { layout.test } {
            let bytes = files.read(file).map_err(|e| Error::data_set(&name, format!("cannot read {file}: {e}")))?;
            if bytes.is_empty() || bytes.len() % record != 0 {
                let reason = format!("{file} has {} bytes, not a multiple of {record}; download it again", bytes.len());
                return Err(Error::data_set(name, reason));
            }
            records.extend_from_slice(&bytes);
        }
        let tasks = layout
            .tasks
            .iter()
            .map(|&(task, count, file)| Task { name: task.into(), classes: classes(&files, file, count) });
        let tasks: Vec<Task> = tasks.collect();
        check_labels(&records, &tasks).map_err(|reason| Error::data_set(&name, reason))?;
        Ok(Self { name: format!("{name} ({})", if split == Split::Train { "train" } else { "test" }), records, tasks })
    }

    fn record(&self, index: usize) -> Result<&[u8]> {
        let length = PIXELS + self.tasks.len();
        let record = index.checked_mul(length).and_then(|start| self.records.get(start..start + length));
        record.ok_or_else(|| Error::data_set(&self.name, format!("it has no image {index}")))
    }
}

fn is_pickled(path: &Path) -> bool {
    path.join("data_batch_1").is_file() || path.join("meta").is_file() && path.join("train").is_file()
}

/// Source of the files.
enum Files {
    Folder(PathBuf),
    Archive(BTreeMap<String, Vec<u8>>),
}

impl Files {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Archive(files) => files.contains_key(name),
        }
    }

    fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Folder(folder) => fs::read(folder.join(name)),
            Self::Archive(files) => files.get(name).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// The files of an archive by their last path component, unpacked in memory.
fn unpack(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let broken = |e: std::io::Error| Error::data_set(path.display().to_string(), format!("cannot unpack it: {e}"));
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)).take(MOST_BYTES));
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(broken)?.take(MOST_ENTRIES) {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.file_name().map(|name| name.to_string_lossy().into_owned());
        if let (true, Some(name)) = (entry.header().entry_type().is_file(), name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            files.insert(name, bytes);
        }
    }
    Ok(files)
}

/// Class names from the data set's own file; without it, the well-known names or numbers.
fn classes(files: &Files, file: &str, count: usize) -> Vec<String> {
    let text = files.read(file).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match names.len() == count {
        true => names,
        false if count == CIFAR10_CLASSES.len() => CIFAR10_CLASSES.map(str::to_owned).to_vec(),
        false => (0..count).map(|class| class.to_string()).collect(),
    }
}

fn check_labels(records: &[u8], tasks: &[Task]) -> std::result::Result<(), String> {
    for (index, record) in records.chunks_exact(PIXELS + tasks.len()).enumerate() {
        for (&label, task) in record.iter().zip(tasks) {
            if usize::from(label) >= task.classes.len() {
                let classes = task.classes.len();
                return Err(format!("record {index} has {} {label}, but there are {classes} classes", task.name));
            }
        }
    }
    Ok(())
}

impl Dataset for CifarDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.records.len() / (PIXELS + self.tasks.len())
    }

    fn image(&self, index: usize) -> Result<Image> {
        let (red, rest) = self.record(index)?[self.tasks.len()..].split_at(SIDE * SIDE);
        let (green, blue) = rest.split_at(SIDE * SIDE);
        let pixels = red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]).collect();
        Image::new(Size::square(SIDE), pixels)
    }

    fn size(&self, _: usize) -> Result<Size> {
        Ok(Size::square(SIDE))
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.record(index).ok()?[..self.tasks.len()].get(task).copied().map(u32::from)
    }

    fn key(&self, index: usize) -> String {
        format!("{}, record {index}", self.name)
    }

    fn fingerprint(&self) -> Result<String> {
        Ok(crate::hexadecimal(&Sha256::digest(&self.records)))
    }
}
