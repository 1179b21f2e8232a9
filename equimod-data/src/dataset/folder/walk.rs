//! Walk below a folder: its images, and all other files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::formats::{self, Kind};
use crate::{Error, Result};

/// An image file.
pub(super) struct File {
    /// Path relative to the root.
    pub path: PathBuf,
    pub bytes: u64,
    /// Name of its format, if that is not supported.
    pub unread: Option<&'static str>,
    pub class: Option<u32>,
}

/// Contents of a folder that are not images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Hidden files and folders, and leftovers of file managers, notebooks and archive tools: count by name.
    pub leftovers: BTreeMap<String, usize>,
    /// Files that are not images: count by extension in lower case.
    pub others: BTreeMap<String, usize>,
    /// Files and folders that cannot be opened, relative to the folder, each with the reason.
    pub unopened: Vec<(PathBuf, String)>,
}

/// Names, in lower case, of files and folders that file managers, notebooks, archive tools and operating systems
/// create.
const LEFTOVERS: [&str; 16] = [
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "icon\r",
    "lost+found",
    "picasa.ini",
    "system volume information",
    "thumbs.db",
];

/// Whether a file or folder with this name is hidden, or a leftover of another program.
pub fn is_leftover(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || LEFTOVERS.contains(&name.to_lowercase().as_str())
}

/// The image files below `root` sorted by path, and everything else.
pub(super) fn walk(root: &Path) -> Result<(Vec<File>, PassedOver)> {
    let (mut files, mut passed_over) = (Vec::new(), PassedOver::default());
    let mut entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if entry.depth() > 0 && is_leftover(entry.file_name()) => {
                if entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
                passed_over.leave(entry.file_name());
            }
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) => match kind(entry.path()) {
                Kind::Other => passed_over.other(entry.path()),
                kind => files.push(File::new(below(root, entry.path()), length(&entry), kind)),
            },
            Err(error) if error.depth() == 0 => return Err(unreadable(root, error)),
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                match (kind(&path), path.file_name()) {
                    (_, Some(name)) if is_leftover(name) => passed_over.leave(name),
                    // A broken link is an image that does not decode.
                    (kind @ (Kind::Read(_) | Kind::Unread(_)), _) if error.loop_ancestor().is_none() => {
                        files.push(File::new(below(root, &path), 0, kind));
                    }
                    _ => passed_over.unopened.push((below(root, &path), reason(error))),
                }
            }
        }
    }
    Ok((files, passed_over))
}

/// Whether a file that satisfies `is_meant` is below `root` at any depth, except for leftovers of other programs.
pub fn holds_file(root: &Path, is_meant: impl Fn(&Path) -> bool) -> bool {
    let entries = WalkDir::new(root).follow_links(true).into_iter();
    let entries = entries.filter_entry(|entry| entry.depth() == 0 || !is_leftover(entry.file_name()));
    entries.filter_map(|entry| entry.ok()).any(|entry| !entry.file_type().is_dir() && is_meant(entry.path()))
}

/// Kind of a file, by its name.
pub(super) fn kind(path: &Path) -> Kind {
    formats::of_extension(&path.extension().unwrap_or_default().to_string_lossy())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

/// Length of a file in bytes; a file that disappears during the walk is one that does not decode.
fn length(entry: &DirEntry) -> u64 {
    entry.metadata().map_or(0, |about| about.len())
}

fn reason(error: walkdir::Error) -> String {
    match (error.loop_ancestor(), error.io_error()) {
        (Some(_), _) => "it is a link to a folder around it".into(),
        (None, Some(io)) => io.to_string(),
        (None, None) => error.to_string(),
    }
}

fn unreadable(root: &Path, error: walkdir::Error) -> Error {
    let text = error.to_string();
    Error::io(root, error.into_io_error().unwrap_or_else(|| io::Error::other(text)))
}

impl File {
    fn new(path: PathBuf, bytes: u64, kind: Kind) -> Self {
        let unread = match kind {
            Kind::Unread(format) => Some(format),
            Kind::Read(_) | Kind::Other => None,
        };
        Self { path, bytes, unread, class: None }
    }
}

impl PassedOver {
    fn leave(&mut self, name: &OsStr) {
        let name = name.to_string_lossy();
        // macOS creates such a file for every file on foreign disks.
        let name = if name.starts_with("._") { "._*".into() } else { name.into_owned() };
        *self.leftovers.entry(name).or_default() += 1;
    }

    fn other(&mut self, path: &Path) {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        *self.others.entry(extension.unwrap_or_default()).or_default() += 1;
    }

    /// Human-readable clauses about the contents; empty if there are none.
    pub fn clauses(&self) -> Vec<String> {
        let mut clauses = Vec::new();
        let total = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
        if !self.leftovers.is_empty() {
            let names = listed(self.leftovers.keys().map(String::as_str));
            clauses.push(format!("{} hidden or left by other programs ({names})", total(&self.leftovers)));
        }
        if !self.others.is_empty() {
            let count = |(extension, count): (&String, &usize)| match extension.as_str() {
                "" => format!("{count} without extension"),
                extension => format!("{count} .{extension}"),
            };
            let counts: Vec<String> = self.others.iter().map(count).collect();
            let files = if total(&self.others) == 1 { "file" } else { "files" };
            let counts = listed(counts.iter().map(String::as_str));
            clauses.push(format!("{} other {files} ({counts})", total(&self.others)));
        }
        if !self.unopened.is_empty() {
            let each: Vec<String> =
                self.unopened.iter().map(|(path, reason)| format!("{}: {reason}", path.display())).collect();
            let each = listed(each.iter().map(String::as_str));
            clauses.push(format!("{} that cannot be opened ({each})", self.unopened.len()));
        }
        clauses
    }
}

/// Up to eight names, and the number of further ones.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
