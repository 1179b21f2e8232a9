//! The layout of a folder of images: splits or classes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::split_names::split_of_folder;
use super::splits::Splits;
use crate::dataset::folder::{holds_file, is_image, is_leftover};
use crate::{Dataset, Error, Result, Task};

/// Reading of a folder of images, as selected by the `#` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderReading {
    /// Sub-folders with the names of splits are splits; all others are ignored.
    Splits,
    /// Its sub-folders are classes, whatever their names.
    Classes,
}

impl FolderReading {
    /// The reading that the word behind the `#` of a source names.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "splits" => Some(Self::Splits),
            "classes" => Some(Self::Classes),
            _ => None,
        }
    }
}

/// The splits of a folder, and its other parts.
#[derive(Debug, Default)]
pub struct Layout {
    /// The folders of the splits `train`, `test` and `validation`; none if the folder itself holds the images.
    pub splits: BTreeMap<&'static str, PathBuf>,
    /// Ignored parts of the folder besides its splits, for messages.
    pub left_out: Vec<String>,
}

/// A sub-folder that may be a split or a class.
struct Child {
    path: PathBuf,
    name: String,
    split: Option<&'static str>,
}

impl Layout {
    /// Recognizes splits by the names of the sub-folders that hold images. Where others hold images too, `reading`
    /// has to say whether all of them are classes.
    ///
    /// # Errors
    /// If the folder can be read in two ways, or two of its folders are the same split.
    pub fn of(folder: &Path, reading: Option<FolderReading>) -> Result<Self> {
        if reading == Some(FolderReading::Classes) {
            return Ok(Self::default());
        }
        let (children, mut left_out) = children(folder)?;
        let (splits, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.split.is_some());
        if splits.is_empty() {
            return match reading {
                None => Ok(Self::default()),
                Some(_) => Err(wrong(folder, "none of its sub-folders with images has the name of a split".into())),
            };
        }
        if !others.is_empty() && reading.is_none() {
            return Err(ambiguous(folder, &splits, &others));
        }
        left_out.extend(others.iter().map(|child| format!("{}/", child.name)));
        let mut layout = Self { left_out, ..Self::default() };
        for child in splits {
            let Some(split) = child.split else { continue };
            if let Some(other) = layout.splits.insert(split, child.path) {
                let other = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let text = format!("several of its folders are the split {split}: {other}, {}; leave one", child.name);
                return Err(wrong(folder, text));
            }
        }
        Ok(layout)
    }
}

/// Sub-folders with images, and other parts of the folder that a user may expect to be read.
fn children(folder: &Path) -> Result<(Vec<Child>, Vec<String>)> {
    let failed = |source| Error::Io { path: folder.into(), source };
    let (mut children, mut left_out, mut images) = (Vec::new(), Vec::new(), 0);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let file_name = path.file_name().unwrap_or_default();
        if is_leftover(file_name) {
            continue;
        }
        let name = file_name.to_string_lossy().into_owned();
        if !path.is_dir() {
            images += usize::from(is_image(&path));
        } else if holds_data(&path) {
            children.push(Child { split: split_of_folder(&name), name, path });
        } else {
            left_out.push(format!("{name}/ (no images)"));
        }
    }
    children.sort_by(|one, other| one.name.cmp(&other.name));
    left_out.sort();
    if images > 0 {
        left_out.push(format!("{} in the folder itself", counted(images)));
    }
    Ok((children, left_out))
}

/// Whether a folder holds an image, a table or a shard at any depth.
fn holds_data(folder: &Path) -> bool {
    let is_data = |path: &Path| path.extension().is_some_and(|e| e == OsStr::new("parquet") || e == OsStr::new("tar"));
    holds_file(folder, |path| is_image(path) || is_data(path))
}

/// Whether a folder holds an image at any depth.
pub fn holds_images(folder: &Path) -> bool {
    holds_file(folder, is_image)
}

fn wrong(folder: &Path, reason: String) -> Error {
    Error::data_set(folder.display().to_string(), reason)
}

fn ambiguous(folder: &Path, splits: &[Child], others: &[Child]) -> Error {
    let names = |children: &[Child]| listed(&children.iter().map(|child| child.name.as_str()).collect::<Vec<_>>());
    let (count, shown) = (splits.len() + others.len(), folder.display());
    let text = format!(
        "it can be read as splits ({}) with folders that are none ({}), or as {count} classes; choose with \
         {shown}#splits, which ignores the others, or {shown}#classes",
        names(splits),
        names(others)
    );
    wrong(folder, text)
}

/// Up to six names, and the number of further ones.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// One line about how the folder `source` was read: its splits, their classes, and the ignored files.
pub fn describe(source: &str, splits: &Splits) -> String {
    let parts = [
        (Some(&splits.train), "training"),
        (splits.validation.as_ref(), "validation"),
        (splits.test.as_ref(), "testing"),
    ];
    let parts: Vec<_> = parts.into_iter().filter_map(|(dataset, role)| Some((dataset?.as_ref(), role))).collect();
    let mut text = match parts.as_slice() {
        [(only, _)] => format!("{source} is read as {}{}", described(*only, None), hint(source, *only)),
        _ => {
            let first = Some(splits.train.as_ref());
            let each = parts.iter().enumerate().map(|(place, (part, role))| {
                let described = described(*part, first.filter(|_| place > 0));
                format!("{} for {role}, {described}", short(source, *part))
            });
            format!("{source} is read as splits: {}", each.collect::<Vec<_>>().join("; "))
        }
    };
    let mut left_out = splits.left_out.clone();
    left_out.extend(parts.iter().filter_map(|(part, _)| part.passed_over()).flat_map(|found| found.clauses()));
    if !left_out.is_empty() {
        text += &format!("; ignored: {}", left_out.join(", "));
    }
    text
}

fn counted(images: usize) -> String {
    if images == 1 { "1 image".into() } else { format!("{images} images") }
}

/// Name of a split, without the name of its folder.
fn short<'a>(source: &str, part: &'a dyn Dataset) -> &'a str {
    let name = part.name();
    let path = source.split('#').next().unwrap_or(source);
    name.strip_prefix(path).map_or(name, |rest| rest.trim_start_matches(['/', '\\', ' '])).trim_matches(['(', ')'])
}

/// The number of images and their labels; where these are those of `first`, their names are not repeated.
fn described(part: &dyn Dataset, first: Option<&dyn Dataset>) -> String {
    let mut text = counted(part.len());
    let of = |task: &Task| {
        let names: Vec<&str> = task.classes.iter().map(String::as_str).collect();
        let count = if names.len() == 1 { "1 class".into() } else { format!("{} classes", names.len()) };
        let name = if task.name == "class" { String::new() } else { format!("{}: ", task.name) };
        format!("{name}{count} ({})", listed(&names))
    };
    text += &match part.tasks() {
        [] => " without labels".into(),
        tasks if first.is_some_and(|first| first.tasks() == tasks) => " in the same classes".into(),
        tasks => format!(" in {}", tasks.iter().map(of).collect::<Vec<_>>().join("; ")),
    };
    let unread = part.unread();
    if !unread.is_empty() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        unread.values().for_each(|format| *counts.entry(format).or_default() += 1);
        let counts: Vec<String> = counts.iter().map(|(format, count)| format!("{count} {format}")).collect();
        text += &format!(", {} of them in formats that are not read ({})", unread.len(), counts.join(", "));
    }
    text
}

/// A hint if a folder inside of the only class may be meant.
fn hint(source: &str, only: &dyn Dataset) -> String {
    let Some([class]) = only.tasks().first().map(|task| task.classes.as_slice()) else { return String::new() };
    if only.passed_over().is_none() {
        return String::new();
    }
    let inside = Path::new(source.split('#').next().unwrap_or(source)).join(class);
    format!("; for the classes inside of it, give {}", inside.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    type Parts = std::result::Result<(Vec<&'static str>, Vec<String>), String>;

    fn splits(files: &[&str], reading: Option<FolderReading>) -> Parts {
        let folder = folder(files);
        let layout = Layout::of(folder.path(), reading).map_err(|error| error.to_string())?;
        Ok((layout.splits.keys().copied().collect(), layout.left_out))
    }

    #[test]
    fn splits_are_recognized_by_name_and_the_rest_is_named() {
        let found = splits(&["Train/a/1.png", "VAL2017/a/1.png", "annotations/x.json", ".git/1.png", "0.png"], None);
        let left_out = ["annotations/ (no images)", "1 image in the folder itself"].map(str::to_owned).to_vec();
        assert_eq!(found, Ok((vec!["train", "validation"], left_out)));
        assert_eq!(splits(&["cat/1.png", "dog/1.png", "test/labels.txt"], None).unwrap().0, [""; 0]);
        assert!(splits(&["train/1.png", "training_set/1.png"], None).unwrap_err().contains("train, training_set"));
    }

    #[test]
    fn what_stays_ambiguous_is_an_error_with_both_readings() {
        let files = ["train/a/1.png", "test/a/1.png", "extra/a/1.png"];
        let text = splits(&files, None).unwrap_err();
        for part in ["splits (test, train)", "none (extra)", "3 classes", "#splits", "#classes"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(splits(&files, Some(FolderReading::Splits)), Ok((vec!["test", "train"], vec!["extra/".to_owned()])));
        assert_eq!(splits(&files, Some(FolderReading::Classes)), Ok((vec![], vec![])));
        assert!(splits(&["cat/1.png"], Some(FolderReading::Splits)).unwrap_err().contains("the name of a split"));
    }
}
