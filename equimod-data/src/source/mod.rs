//! Sources on this machine: from a path to the splits of a data set.
//!
//! ```no_run
//! use equimod_data::source::{ReadOptions, open};
//!
//! # fn main() -> equimod_data::Result<()> {
//! let splits = open("birds/", ReadOptions::default())?;
//! println!("{} training images", splits.train.len());
//! # Ok(())
//! # }
//! ```

mod layout;
mod split_names;
mod splits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use layout::describe;
pub use split_names::{split_called, split_of};
pub use splits::{Designs, Splits, task_name, with_labels};

use crate::dataset::folder::is_image;
pub use crate::reading::ReadOptions;
use crate::{
    CifarDataset, Concat, Dataset, Error, FolderDataset, PackedDataset, ParquetDataset, Result, ShardsDataset, Split,
    Stl10Dataset, Stl10Split,
};
use layout::{FolderReading, Layout};

/// Opens a source on this machine: a folder of images, CIFAR-10, CIFAR-100, STL-10, parquet tables, WebDataset shards
/// or a packed file. A `#` after a path names the image column of a table, or selects how a folder is read (`#splits`,
/// `#classes`).
///
/// # Errors
/// If there is no data set at the path, or it cannot be read.
pub fn open(source: &str, options: ReadOptions) -> Result<Splits> {
    let (path, column) = match source.rsplit_once('#') {
        Some((path, column)) if !Path::new(source).exists() => (Path::new(path), Some(column)),
        _ => (Path::new(source), None),
    };
    if let Some(splits) = known_set(source, path)? {
        return Ok(splits);
    }
    if path.is_dir() {
        return folder(source, path, column, options);
    }
    if PackedDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(PackedDataset::open(path)?), None));
    }
    if ShardsDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(ShardsDataset::open(path)?.read_with(options)), None));
    }
    table(source, path, column, options)
}

/// A data set in its own format: its folder, the folder around it, or its archive.
fn known_set(source: &str, path: &Path) -> Result<Option<Splits>> {
    const UNPACKED: [&str; 3] = ["cifar-10-batches-bin", "cifar-100-binary", "stl10_binary"];
    let inside = UNPACKED.into_iter().map(|name| path.join(name)).find(|path| path.is_dir());
    let path = inside.as_deref().unwrap_or(path);
    if CifarDataset::is_at(path) {
        let (train, test) = (CifarDataset::open(path, Split::Train)?, CifarDataset::open(path, Split::Test)?);
        return Ok(Some(Splits::of(source, Arc::new(train), Some(Arc::new(test)))));
    }
    if Stl10Dataset::is_at(path) {
        return stl10(source, path).map(Some);
    }
    Ok(None)
}

/// STL-10: training images or, if there are none, unlabeled images; test images if there are any.
fn stl10(source: &str, path: &Path) -> Result<Splits> {
    let open = |split| Ok::<Arc<dyn Dataset>, Error>(Arc::new(Stl10Dataset::open(path, split)?));
    let has = |file: &str| path.join(file).is_file();
    if !has("train_X.bin") {
        return Ok(Splits::of(source, open(Stl10Split::Unlabeled)?, None));
    }
    let test = if has("test_X.bin") { Some(open(Stl10Split::Test)?) } else { None };
    let mut splits = Splits::of(source, open(Stl10Split::Train)?, test);
    if has("unlabeled_X.bin") {
        splits.pretraining = Some(open(Stl10Split::TrainAndUnlabeled)?);
    }
    Ok(splits)
}

/// A parquet file.
fn table(source: &str, file: &Path, column: Option<&str>, options: ReadOptions) -> Result<Splits> {
    let wrong = |reason: String| Error::DataSet { name: source.into(), reason };
    if !file.is_file() {
        let hint = if source.contains(['/', '\\', '.']) { "" } else { ", and the bundled set is called emoji" };
        return Err(wrong(format!("there is no such file or folder{hint}; see `equimod list datasets`")));
    }
    if is_image(file) {
        return Err(wrong("it is one image, not a data set; give the folder that it is in".into()));
    }
    if let Some(text) = not_images(file) {
        return Err(wrong(text.into()));
    }
    let table = ParquetDataset::open(file, column)?.read_with(options);
    Ok(Splits::of(source, Arc::new(table), None))
}

/// Why a file with this extension is no data set.
fn not_images(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "toml" => "it is a recipe or a study, not a data set; give a recipe with --recipe",
        "csv" | "tsv" | "json" | "jsonl" | "txt" | "xlsx" => {
            "it is a table of text, not a data set; sort the images into a folder for each class, or write a parquet \
             table with an image column (`Labels in a CSV file` in the documentation of data shows both)"
        }
        _ => return None,
    })
}

fn folder(source: &str, path: &Path, column: Option<&str>, options: ReadOptions) -> Result<Splits> {
    if ShardsDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(ShardsDataset::open(path)?.read_with(options)), None));
    }
    let tables = tables_below(path)?;
    let reading = column.and_then(FolderReading::of);
    if !tables.is_empty() || (column.is_some() && reading.is_none()) {
        return from_tables(source, &tables, column, options);
    }
    let Layout { splits, left_out } = Layout::of(path, reading)?;
    if splits.is_empty() {
        return Ok(Splits::of(source, images(path, options)?, None));
    }
    let inside = |path: &PathBuf| match layout::holds_images(path) {
        true => images(path, options),
        // Tables or shards.
        false => open(&path.display().to_string(), options).map(|splits| splits.train),
    };
    let split = |name: &str| splits.get(name).map(inside).transpose();
    let splits = match (split("train")?, split("validation")?, split("test")?) {
        (Some(train), validation, test) => Splits::of(source, train, test).with_validation(validation),
        (None, Some(train), test) => Splits::of(source, train, test),
        (None, None, only) => Splits::of(source, only.map_or_else(|| images(path, options), Ok)?, None),
    };
    Ok(Splits { left_out, ..splits })
}

/// All images below a folder, with its sub-folders as classes.
///
/// # Errors
/// If the folder cannot be read or has no images.
pub fn images(path: &Path, options: ReadOptions) -> Result<Arc<dyn Dataset>> {
    Ok(Arc::new(FolderDataset::open(path)?.read_with(options)))
}

/// The parquet files in a folder and in its folders, by split.
fn tables_below(path: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut tables: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let failed = |source| Error::Io { path: path.into(), source };
    for folder in [path.to_owned(), path.join("data")] {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|ending| ending == "parquet") {
                let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                tables.entry(split_of(&name).unwrap_or("train").into()).or_default().push(file);
            }
        }
    }
    tables.values_mut().for_each(|files| files.sort());
    Ok(tables)
}

/// The splits `train`, `validation` and `test` of parquet files, which `tables` lists by split. A single split is used
/// for training. Without a test split, the validation images are the test images.
///
/// # Errors
/// If there are no files, or if one cannot be read.
pub fn from_tables(
    source: &str,
    tables: &BTreeMap<String, Vec<PathBuf>>,
    column: Option<&str>,
    options: ReadOptions,
) -> Result<Splits> {
    let join = |split: &str| -> Result<Option<Arc<dyn Dataset>>> {
        let Some(files) = tables.get(split) else { return Ok(None) };
        let files: Vec<Arc<dyn Dataset>> = ParquetDataset::open_all(files, column)?
            .into_iter()
            .map(|table| Arc::new(table.read_with(options)) as Arc<dyn Dataset>)
            .collect();
        Ok(Some(Arc::new(Concat::new(&format!("{source} ({split})"), files)?)))
    };
    let (train, validation, test) = (join("train")?, join("validation")?, join("test")?);
    match (train, validation, test) {
        (Some(train), validation, test) => Ok(Splits::of(source, train, test).with_validation(validation)),
        (None, None, Some(only)) | (None, Some(only), None) => Ok(Splits::of(source, only, None)),
        (None, Some(train), test) => Ok(Splits::of(source, train, test)),
        (None, None, None) => {
            Err(Error::DataSet { name: source.into(), reason: "it has no parquet files of a split".into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Size};

    #[test]
    fn a_folder_of_splits_is_opened_by_the_names_of_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image::new(Size::square(4), vec![90; 48]).unwrap().encode_png().unwrap();
        for path in ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &image).unwrap();
        }
        let source = folder.path().display().to_string();
        let splits = open(&source, ReadOptions::default()).unwrap();
        // Without a test split, validation images are tested on.
        assert_eq!((splits.train.len(), splits.test.map(|test| test.len())), (2, Some(2)));
        assert!(splits.validation.is_none());
        let classes = open(&format!("{source}#classes"), ReadOptions::default()).unwrap();
        assert_eq!((classes.train.len(), classes.train.tasks()[0].classes.len()), (4, 2));
        assert!(open("nowhere", ReadOptions::default()).err().unwrap().to_string().contains("nowhere"));
    }
}
