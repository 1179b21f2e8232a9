//! A folder of pictures: class sub-folders, or unlabelled, of any nesting.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// File endings that count as pictures, in lower case.
pub const ENDINGS: [&str; 5] = ["bmp", "jpeg", "jpg", "png", "webp"];

/// The pictures below a folder, in the order of their paths.
///
/// Where no picture lies in the folder itself, its sub-folders are the classes of the task `class` (and may be nested
/// further); where one does, the pictures are unlabelled.
pub struct FolderDataset {
    root: PathBuf,
    name: String,
    files: Vec<File>,
    tasks: Vec<Task>,
    oriented: bool,
}

struct File {
    /// Below the root.
    path: PathBuf,
    bytes: u64,
    class: Option<u32>,
}

impl FolderDataset {
    /// Lists the pictures below `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let name = root.display().to_string();
        if !root.is_dir() {
            let reason = if root.exists() { "it is not a folder" } else { "there is no such folder" };
            return Err(Error::data_set(name, format!("{reason}; give a folder of pictures")));
        }
        let mut files = Vec::new();
        let below = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_picture(entry.path()) => {
                    let bytes = entry.metadata().map_err(|e| unreadable(root, e))?.len();
                    files.push(File { path: below(entry.path()), bytes, class: None });
                }
                Ok(_) => {}
                // A link to nowhere is a picture that does not decode, or none; a link back up is walked already.
                Err(error) if leads_nowhere(&error) => {
                    let path = error.path().filter(|path| is_picture(path));
                    files.extend(path.map(|path| File { path: below(path), bytes: 0, class: None }));
                }
                Err(error) => return Err(unreadable(root, error)),
            }
        }
        if files.is_empty() {
            let reason = format!("it holds no pictures; files ending in {} are read", ENDINGS.join(", "));
            return Err(Error::data_set(name, reason));
        }
        let tasks = label(&mut files);
        Ok(Self { root: root.into(), name, files, tasks, oriented: false })
    }

    /// The same folder with pictures turned as their EXIF orientation says, if `oriented`.
    pub fn oriented(mut self, oriented: bool) -> Self {
        self.oriented = oriented;
        self
    }

    fn path(&self, index: usize) -> Result<PathBuf> {
        let file = self.files.get(index);
        let file = file.ok_or_else(|| Error::data_set(&self.name, format!("it has no picture {index}")))?;
        Ok(self.root.join(&file.path))
    }
}

fn unreadable(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_owned();
    let text = error.to_string();
    Error::io(path, error.into_io_error().unwrap_or_else(|| std::io::Error::other(text)))
}

/// Whether an entry is a link to what is not there, or to a folder around it.
fn leads_nowhere(error: &walkdir::Error) -> bool {
    let missing = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    error.loop_ancestor().is_some() || (error.depth() > 0 && error.io_error().is_some_and(missing))
}

/// By its ending; hidden files (such as the shadows that macOS leaves beside pictures) are none.
fn is_picture(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
        return false;
    }
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Labels files by their first folder, unless one lies in none.
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
        let path = self.path(index)?;
        let key = path.display().to_string();
        let bytes = fs::read(&path).map_err(|e| Error::Picture { key: key.clone(), reason: e.to_string() })?;
        if self.oriented { Image::decode_oriented(&bytes, &key) } else { Image::decode(&bytes, &key) }
    }

    fn size(&self, index: usize) -> Result<Size> {
        if self.oriented {
            return Ok(self.image(index)?.size());
        }
        let path = self.path(index)?;
        let fail = |reason: String| Error::Picture { key: path.display().to_string(), reason };
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

    /// Paths and sizes do not tell contents apart; with the folder and the times of the last changes, they do on one machine.
    fn contents(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.fingerprint()?);
        hash.update(fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone()).to_string_lossy().as_bytes());
        for file in &self.files {
            let changed = fs::metadata(self.root.join(&file.path)).and_then(|about| about.modified());
            let since = changed.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            hash.update(since.map_or(0, |time| time.as_nanos()).to_le_bytes());
        }
        Ok(crate::hexadecimal(&hash.finalize()))
    }

    /// Of the paths below the folder and the sizes of the files, not of their content.
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
