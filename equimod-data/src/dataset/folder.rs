//! Folder of images: class sub-folders, or unlabeled images at any depth.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Dataset, Entries, Task};
use crate::formats;
use crate::image::{Image, Size};
use crate::reading::ReadOptions;
use crate::{Error, Result};

mod walk;

pub use crate::formats::EXTENSIONS as ENDINGS;
use walk::File;
pub use walk::{PassedOver, holds_file, is_leftover};

/// Images below a folder, sorted by path.
///
/// If no image is in the folder itself, its sub-folders are the classes of the task `class` (and may be nested
/// further); otherwise, the images are unlabeled. Hidden files and folders, and leftovers of other programs, are
/// ignored. Images in unsupported formats are included, but do not decode.
pub struct FolderDataset {
    root: PathBuf,
    name: String,
    files: Vec<File>,
    tasks: Vec<Task>,
    passed_over: PassedOver,
    options: ReadOptions,
}

impl FolderDataset {
    /// Lists the images below `root`.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or has no image in a supported format.
    pub fn open(root: &Path) -> Result<Self> {
        let name = root.display().to_string();
        if !root.is_dir() {
            let reason = if root.exists() { "it is not a folder" } else { "there is no such folder" };
            return Err(Error::data_set(name, format!("{reason}; give a folder of images")));
        }
        let (mut files, passed_over) = walk::walk(root)?;
        if files.iter().all(|file| file.unread.is_some()) {
            return Err(Error::data_set(name, nothing_to_read(&files, &passed_over)));
        }
        let tasks = label(&mut files);
        Ok(Self { root: root.into(), name, files, tasks, passed_over, options: ReadOptions::default() })
    }

    /// The same folder, whose images are read with `options`.
    pub fn read_with(mut self, options: ReadOptions) -> Self {
        self.options = options;
        self
    }

    /// Path of an image in a supported format.
    fn path(&self, index: usize) -> Result<PathBuf> {
        let file = self.files.get(index);
        let file = file.ok_or_else(|| Error::data_set(&self.name, format!("it has no image {index}")))?;
        let path = self.root.join(&file.path);
        match file.unread {
            None => Ok(path),
            Some(format) => Err(Error::Image { key: path.display().to_string(), reason: formats::not_read(format) }),
        }
    }

    /// Bytes of a file, and its key.
    fn read(&self, index: usize) -> Result<(Vec<u8>, String)> {
        let path = self.path(index)?;
        let key = path.display().to_string();
        match fs::read(&path) {
            Ok(bytes) => Ok((bytes, key)),
            Err(error) => Err(Error::Image { key, reason: error.to_string() }),
        }
    }
}

/// Number of images in each unsupported format.
fn unread_formats(files: &[File]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    files.iter().filter_map(|file| file.unread).for_each(|format| *counts.entry(format).or_default() += 1);
    counts
}

/// Reason why a folder without a supported image is rejected.
fn nothing_to_read(files: &[File], passed_over: &PassedOver) -> String {
    let mut found: Vec<String> =
        unread_formats(files).into_iter().map(|(format, count)| format!("{count} in the format {format}")).collect();
    found.extend(passed_over.clauses());
    let found = if found.is_empty() { String::new() } else { format!("; it holds {}", found.join(", ")) };
    format!("it holds no images in a format that is read ({}){found}", formats::READ)
}

/// Whether a file is an image by the extension of its name, in a supported format or not.
pub fn is_image(path: &Path) -> bool {
    walk::kind(path) != formats::Kind::Other
}

/// Labels files by their first folder, unless one is in the root folder.
fn label(files: &mut [File]) -> Vec<Task> {
    let class = |file: &File| {
        let mut parts = file.path.components();
        let first = parts.next().map(|p| p.as_os_str().to_string_lossy().into_owned());
        parts.next().and(first)
    };
    let Some(names) = files.iter().map(class).collect::<Option<Vec<String>>>() else { return Vec::new() };
    let mut classes = names.clone();
    classes.sort();
    classes.dedup();
    for (file, name) in files.iter_mut().zip(&names) {
        file.class = classes.binary_search(name).ok().map(|c| c as u32);
    }
    vec![Task { name: "class".into(), classes }]
}

impl Dataset for FolderDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        let (bytes, key) = self.read(index)?;
        Image::decode_with(&bytes, &key, self.options)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.read(index).map(|(bytes, _)| Some(bytes))
    }

    fn unread(&self) -> BTreeMap<usize, &'static str> {
        let unread = |(index, file): (usize, &File)| Some((index, file.unread?));
        self.files.iter().enumerate().filter_map(unread).collect()
    }

    fn passed_over(&self) -> Option<&PassedOver> {
        Some(&self.passed_over)
    }

    /// Paths below the folder, with the lengths of the files in bytes.
    fn entries(&self) -> Result<Entries<'_>> {
        let entry = |file: &File| (file.path.to_string_lossy().into_owned(), file.bytes.to_string());
        Ok(Box::new(self.files.iter().map(entry)))
    }

    fn size(&self, index: usize) -> Result<Size> {
        if self.options.apply_orientation {
            return Ok(self.image(index)?.size());
        }
        let path = self.path(index)?;
        let fail = |reason: String| Error::Image { key: path.display().to_string(), reason };
        let file = fs::File::open(&path).map_err(|e| fail(e.to_string()))?;
        crate::decode::size(BufReader::new(file)).map_err(fail)
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.tasks.get(task)?;
        self.files.get(index)?.class
    }

    fn key(&self, index: usize) -> String {
        self.files.get(index).map(|file| self.root.join(&file.path).display().to_string()).unwrap_or_default()
    }

    /// Hash that also covers the folder's path and modification times: paths and lengths alone do not identify
    /// contents.
    fn contents(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.fingerprint()?);
        hash.update(fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone()).to_string_lossy().as_bytes());
        for file in &self.files {
            let changed = fs::metadata(self.root.join(&file.path)).and_then(|about| about.modified());
            let since = changed.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            hash.update(since.map_or(0, |time| time.as_nanos()).to_le_bytes());
        }
        Ok(self.options.cache_key(crate::hexadecimal(&hash.finalize())))
    }

    /// Hash of the paths below the folder and the lengths of the files, not of their contents.
    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(file.path.to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update(file.bytes.to_le_bytes());
        }
        Ok(crate::hexadecimal(&hash.finalize()))
    }
}
