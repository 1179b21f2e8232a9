//! From the name of a source to its pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equimod_data::{
    CifarDataset, Concat, Dataset, Error, FolderDataset, PackedDataset, ParquetDataset, ShardsDataset, Split,
    Stl10Dataset, Stl10Split,
};

use crate::bundled::{Part, emoji};

use crate::hub::layout::split_of;
use crate::hub::reference::{PREFIX, Reference};
use crate::hub::{self, Wanted};

/// Sources: a name, and one line.
pub const SOURCES: [(&str, &str); 9] = [
    ("emoji", "bundled: 3781 Noto and 3781 Twemoji pictures of 32 × 32, labels category, subgroup, skin_tone, flag"),
    ("FOLDER", "pictures (JPEG, PNG, WebP, BMP) in class sub-folders, or unlabelled; train/ and test/ are splits"),
    ("FOLDER of CIFAR-10, CIFAR-100, STL-10", "their binary versions, unpacked (CIFAR also as its .tar.gz)"),
    ("FOLDER of MNIST, Fashion-MNIST", "their four idx files, unpacked"),
    (
        "FOLDER of parquet files",
        "tables in the Hugging Face layout, splits by their names: train-….parquet, test-….parquet",
    ),
    ("FILE.parquet[#COLUMN]", "one such table: a column of pictures, labels by their ClassLabel columns"),
    ("FOLDER of .tar, FILE.tar, x-{000..012}.tar", "shards in the WebDataset layout, after `equimod data index`"),
    ("FILE.equimod", "a file that `equimod data pack` made"),
    (
        "hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT][#COLUMN]",
        "a data set on the Hugging Face Hub, by its parquet files; fetched once (`equimod data fetch`)",
    ),
];

/// How pictures are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Whether they are turned as their EXIF orientation says.
    pub oriented: bool,
}

/// Pictures to train on, and their source; one on the Hub is pinned to the commit that was read.
pub fn training(source: &str, reading: Reading) -> anyhow::Result<(Arc<dyn Dataset>, String)> {
    let splits = read(source, reading, Wanted::Training)?;
    Ok((splits.pretraining.unwrap_or(splits.train), splits.name))
}

/// Pictures for an evaluation.
pub struct Splits {
    /// The source, pinned to a commit if it is on the Hub.
    pub name: String,
    /// To fit on.
    pub train: Arc<dyn Dataset>,
    /// To test on; where there are none, a part of `train` is held out.
    pub test: Option<Arc<dyn Dataset>>,
    /// To pretrain on, where that is more than `train`.
    pub pretraining: Option<Arc<dyn Dataset>>,
    /// Set where each split is two designs of the same things, one after the other in the same order.
    pub designs: Option<Designs>,
}

/// Two designs of the same things, for retrieval across them.
pub struct Designs {
    /// Which.
    pub about: &'static str,
    /// The labels that occur once in each design.
    pub one_shot: &'static str,
}

impl Splits {
    fn of(name: &str, train: Arc<dyn Dataset>, test: Option<Arc<dyn Dataset>>) -> Self {
        Self { name: name.into(), train, test, pretraining: None, designs: None }
    }
}

/// The splits of `source`, with `test` pictures from elsewhere if given.
pub fn splits(source: &str, test: Option<&str>, reading: Reading) -> anyhow::Result<Splits> {
    let wanted = if test.is_some() { Wanted::Training } else { Wanted::Evaluation };
    let mut splits = read(source, reading, wanted)?;
    if let Some(test) = test {
        splits.test = Some(read(test, reading, Wanted::Training)?.train);
    }
    Ok(splits)
}

fn read(source: &str, reading: Reading, wanted: Wanted) -> anyhow::Result<Splits> {
    match source {
        "emoji" => emoji_splits(),
        _ if source.starts_with(PREFIX) => from_hub(&Reference::parse(source)?, reading, wanted),
        _ => open(source, reading),
    }
}

fn from_hub(reference: &Reference, reading: Reading, wanted: Wanted) -> anyhow::Result<Splits> {
    let mut fetched = hub::fetch(reference, wanted)?;
    // A split that is alone, or was asked for by name, is what is trained on, whatever it is called.
    if fetched.splits.len() == 1 {
        fetched.splits = fetched.splits.into_values().map(|files| ("train".into(), files)).collect();
    }
    of_tables(&fetched.reference.to_string(), &fetched.splits, reference.column.as_deref(), reading)
}

fn emoji_splits() -> anyhow::Result<Splits> {
    use Part::{NotoTest, NotoTrain, TwemojiTest, TwemojiTrain};
    let train = emoji("emoji-train", &[NotoTrain, TwemojiTrain])?;
    let test = emoji("emoji-test", &[NotoTest, TwemojiTest])?;
    let designs = Some(Designs { about: "Noto ↔ Twemoji", one_shot: "flag" });
    Ok(Splits { designs, ..Splits::of("emoji", train, Some(test)) })
}

fn open(source: &str, reading: Reading) -> anyhow::Result<Splits> {
    let path = Path::new(source);
    #[cfg(feature = "mnist")]
    if crate::mnist::is_at(path) {
        return crate::mnist::open(path).map(|(train, test)| Splits::of(source, train, Some(test)));
    }
    if CifarDataset::is_at(path) {
        let (train, test) = (CifarDataset::open(path, Split::Train)?, CifarDataset::open(path, Split::Test)?);
        return Ok(Splits::of(source, Arc::new(train), Some(Arc::new(test))));
    }
    if path.is_dir() {
        return folder(source, path, reading);
    }
    if PackedDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(PackedDataset::open(path)?), None));
    }
    if source.ends_with(".tar.gz") || source.ends_with(".tgz") || ShardsDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(ShardsDataset::open(path)?.oriented(reading.oriented)), None));
    }
    table(source, reading)
}

/// A parquet file, with or without the name of a column.
fn table(source: &str, reading: Reading) -> anyhow::Result<Splits> {
    let (file, column) = match source.rsplit_once('#') {
        Some((file, column)) if !Path::new(source).exists() => (file, Some(column)),
        _ => (source, None),
    };
    if !Path::new(file).is_file() {
        let hint = if source.contains(['/', '\\', '.']) { "" } else { ", and the bundled set is called emoji" };
        let reason = format!("there is no such file or folder{hint}; see `equimod list datasets`");
        return Err(Error::DataSet { name: source.into(), reason }.into());
    }
    let table = ParquetDataset::open(Path::new(file), column)?.oriented(reading.oriented);
    Ok(Splits::of(source, Arc::new(table), None))
}

fn folder(source: &str, path: &Path, reading: Reading) -> anyhow::Result<Splits> {
    if Stl10Dataset::is_at(path) {
        let open = |split| Ok::<Arc<dyn Dataset>, Error>(Arc::new(Stl10Dataset::open(path, split)?));
        let mut splits = Splits::of(source, open(Stl10Split::Train)?, Some(open(Stl10Split::Test)?));
        if path.join("unlabeled_X.bin").is_file() {
            splits.pretraining = Some(open(Stl10Split::TrainAndUnlabelled)?);
        }
        return Ok(splits);
    }
    if ShardsDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(ShardsDataset::open(path)?.oriented(reading.oriented)), None));
    }
    let tables = tables_below(path)?;
    if !tables.is_empty() {
        return of_tables(source, &tables, None, reading);
    }
    let (train, test) = (path.join("train"), path.join("test"));
    if train.is_dir() && test.is_dir() {
        let inside = |path: &Path| open(&path.display().to_string(), reading).map(|splits| splits.train);
        return Ok(Splits::of(source, inside(&train)?, Some(inside(&test)?)));
    }
    Ok(Splits::of(source, Arc::new(FolderDataset::open(path)?.oriented(reading.oriented)), None))
}

/// The parquet files in a folder and in its folders, by split.
fn tables_below(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<PathBuf>>> {
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

/// Splits of parquet files: `train`, and `test` or `validation` to test on.
fn of_tables(
    source: &str,
    tables: &BTreeMap<String, Vec<PathBuf>>,
    column: Option<&str>,
    reading: Reading,
) -> anyhow::Result<Splits> {
    let join = |split: &str| -> anyhow::Result<Option<Arc<dyn Dataset>>> {
        let Some(files) = tables.get(split) else { return Ok(None) };
        let open = |file: &PathBuf| -> equimod_data::Result<Arc<dyn Dataset>> {
            Ok(Arc::new(ParquetDataset::open(file, column)?.oriented(reading.oriented)))
        };
        let parts = files.iter().map(open).collect::<equimod_data::Result<Vec<_>>>()?;
        Ok(Some(Arc::new(Concat::new(&format!("{source} ({split})"), parts)?)))
    };
    let test = match join("test")? {
        Some(test) => Some(test),
        None => join("validation")?,
    };
    match (join("train")?, test) {
        (Some(train), test) => Ok(Splits::of(source, train, test)),
        (None, Some(test)) => Ok(Splits::of(source, test, None)),
        (None, None) => {
            Err(Error::DataSet { name: source.into(), reason: "it has no parquet files of a split".into() }.into())
        }
    }
}
