//! From the name of a source to its pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equimod_data::dataset::ColumnLabels;
use equimod_data::dataset::folder::is_image;
use equimod_data::{
    CifarDataset, Concat, Dataset, Error, FolderDataset, PackedDataset, ParquetDataset, ShardsDataset, Split,
    Stl10Dataset, Stl10Split,
};

use crate::bundled::{Part, emoji};
use crate::hub::{self, SplitSelection};
use crate::layout::{self, Asked, Layout};
use crate::output;
use crate::reference::{PREFIX, Reference};
use crate::split_names::split_of;

/// Sources: a name, and one line.
pub const SOURCES: [(&str, &str); 9] = [
    ("emoji", "bundled: 3781 Noto and 3781 Twemoji pictures of 32 × 32, labels category, subgroup, skin_tone, flag"),
    (
        "FOLDER",
        "images (JPEG, PNG, WebP, BMP, GIF, TIFF) in class sub-folders, or unlabeled; train/, val/, test/ are splits (say \
         FOLDER#classes or FOLDER#splits where other folders of images lie beside them)",
    ),
    ("FOLDER of CIFAR-10, CIFAR-100, STL-10", "their binary versions, unpacked (CIFAR also as its .tar.gz)"),
    ("FOLDER of MNIST, Fashion-MNIST", "their four idx files, unpacked (a build with the feature mnist)"),
    (
        "FOLDER of parquet files[#COLUMN]",
        "tables in the Hugging Face layout, splits by their names: train-….parquet, test-….parquet",
    ),
    ("FILE.parquet[#COLUMN]", "one such table: a column of pictures, labels by their ClassLabel columns"),
    (
        "FOLDER of .tar, FILE.tar, x-{000..012}.tar, FILE.index.json",
        "shards in the WebDataset layout, after `equimod data index`",
    ),
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

/// The name of a column of labels in results and after `--task`.
pub fn task_name(column: &str) -> String {
    column.replace('_', "-")
}

/// Pictures to train on, and their source; one on the Hub is pinned to the commit that was read.
pub fn training(source: &str, reading: Reading) -> anyhow::Result<(Arc<dyn Dataset>, String)> {
    let splits = read(source, reading, SplitSelection::Training)?;
    Ok((splits.pretraining.unwrap_or(splits.train), splits.name))
}

/// Pictures for an evaluation.
pub struct Splits {
    /// The source, pinned to a commit if it is on the Hub.
    pub name: String,
    /// To fit on.
    pub train: Arc<dyn Dataset>,
    /// To choose hyper-parameters on; where there are none, a part of `train` is taken.
    pub validation: Option<Arc<dyn Dataset>>,
    /// To test on; where there are none, a part of `train` is held out.
    pub test: Option<Arc<dyn Dataset>>,
    /// To pretrain on, where that is more than `train`.
    pub pretraining: Option<Arc<dyn Dataset>>,
    /// Set where each split is two designs of the same things, one after the other in the same order.
    pub designs: Option<Designs>,
    /// What lies in a folder beside its splits and is not read, for people.
    pub left_out: Vec<String>,
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
        Self {
            name: name.into(),
            train,
            validation: None,
            test,
            pretraining: None,
            designs: None,
            left_out: Vec::new(),
        }
    }

    /// With columns of plain values as further tasks, where the training images have such; see [`with_labels`].
    pub fn with_labels(mut self, tasks: &[String]) -> anyhow::Result<Self> {
        let column = |task: &&String| {
            let is = |name: &str| task_name(name) == task_name(task);
            !self.train.tasks().iter().any(|known| is(&known.name)) && self.train.columns().into_iter().any(is)
        };
        let columns: Vec<String> = tasks.iter().filter(column).cloned().collect();
        self.train = with_labels(self.train, &columns)?;
        let other = |dataset: Option<Arc<dyn Dataset>>| -> anyhow::Result<_> {
            // A source of its own may have its only labels under another name.
            let own = |dataset: Arc<dyn Dataset>| match dataset.tasks() {
                [_] => Ok(dataset),
                _ => with_labels(dataset, &columns),
            };
            dataset.map(own).transpose()
        };
        (self.validation, self.test) = (other(self.validation)?, other(self.test)?);
        Ok(self)
    }

    /// With validation pictures; where there are no test pictures, they are what is tested on.
    fn or_validation(self, validation: Option<Arc<dyn Dataset>>) -> Self {
        match self.test {
            Some(_) => Self { validation, ..self },
            None => Self { test: validation, ..self },
        }
    }
}

/// A data set with columns of plain values as further tasks, by their names; tasks that it has already stay as they are.
pub fn with_labels(mut dataset: Arc<dyn Dataset>, tasks: &[String]) -> anyhow::Result<Arc<dyn Dataset>> {
    for task in tasks {
        if !dataset.tasks().iter().any(|known| task_name(&known.name) == task_name(task)) {
            let columns = dataset.columns();
            let name = columns.into_iter().find(|name| task_name(name) == task_name(task)).map(str::to_owned);
            dataset = Arc::new(ColumnLabels::new(dataset, name.as_deref().unwrap_or(task))?);
        }
    }
    Ok(dataset)
}

/// The splits of `source`.
pub fn splits(source: &str, reading: Reading) -> anyhow::Result<Splits> {
    read(source, reading, SplitSelection::Evaluation)
}

/// Pictures from elsewhere that take the place of a source's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere<'a> {
    /// To choose hyper-parameters on.
    pub validation: Option<&'a str>,
    /// To test on.
    pub test: Option<&'a str>,
}

impl Elsewhere<'_> {
    /// The splits of `source` with these pictures.
    pub fn splits(self, source: &str, reading: Reading) -> anyhow::Result<Splits> {
        let mut splits = match self.test {
            Some(_) => read(source, reading, SplitSelection::Training)?,
            None => splits(source, reading)?,
        };
        let other = |source: &str| -> anyhow::Result<_> { Ok(read(source, reading, SplitSelection::Training)?.train) };
        if let Some(test) = self.test {
            (splits.test, splits.designs) = (Some(other(test)?), None);
        }
        if let Some(validation) = self.validation {
            splits.validation = Some(other(validation)?);
        }
        Ok(splits)
    }
}

fn read(source: &str, reading: Reading, wanted: SplitSelection) -> anyhow::Result<Splits> {
    match source {
        "emoji" => emoji_splits(),
        _ if source.starts_with(PREFIX) => from_hub(&Reference::parse(source)?, reading, wanted),
        _ => open(source, reading),
    }
}

fn from_hub(reference: &Reference, reading: Reading, wanted: SplitSelection) -> anyhow::Result<Splits> {
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

/// A source on this machine, with or without the name of a column of tables. Says what a folder was taken for.
fn open(source: &str, reading: Reading) -> anyhow::Result<Splits> {
    let splits = found(source, reading)?;
    let path = if Path::new(source).exists() { source } else { source.split('#').next().unwrap_or(source) };
    if Path::new(path).is_dir() {
        output::note_once(&layout::line(source, &splits));
    }
    Ok(splits)
}

fn found(source: &str, reading: Reading) -> anyhow::Result<Splits> {
    let (path, column) = match source.rsplit_once('#') {
        Some((path, column)) if !Path::new(source).exists() => (Path::new(path), Some(column)),
        _ => (Path::new(source), None),
    };
    if let Some(splits) = known_set(source, path)? {
        return Ok(splits);
    }
    if path.is_dir() {
        return folder(source, path, column, reading);
    }
    if PackedDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(PackedDataset::open(path)?), None));
    }
    if ShardsDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(ShardsDataset::open(path)?.oriented(reading.oriented)), None));
    }
    table(source, path, column, reading)
}

/// A data set in its own format: its folder, the folder around it, or its archive.
fn known_set(source: &str, path: &Path) -> anyhow::Result<Option<Splits>> {
    const UNPACKED: [&str; 3] = ["cifar-10-batches-bin", "cifar-100-binary", "stl10_binary"];
    let inside = UNPACKED.into_iter().map(|name| path.join(name)).find(|path| path.is_dir());
    let path = inside.as_deref().unwrap_or(path);
    #[cfg(not(feature = "mnist"))]
    if path.join("train-images-idx3-ubyte").is_file() {
        let text = "is a set in the format of MNIST, but this build lacks the feature mnist; build with it: cargo install \
                    --path . --features mnist";
        return Err(crate::exit::Usage(format!("{source} {text}")).into());
    }
    #[cfg(feature = "mnist")]
    if crate::mnist::is_at(path) {
        return crate::mnist::open(path).map(|(train, test)| Some(Splits::of(source, train, Some(test))));
    }
    if CifarDataset::is_at(path) {
        let (train, test) = (CifarDataset::open(path, Split::Train)?, CifarDataset::open(path, Split::Test)?);
        return Ok(Some(Splits::of(source, Arc::new(train), Some(Arc::new(test)))));
    }
    if Stl10Dataset::is_at(path) {
        return stl10(source, path).map(Some);
    }
    Ok(None)
}

/// What there is of STL-10: training pictures or, if they are alone, those without labels; test pictures if they are there.
fn stl10(source: &str, path: &Path) -> anyhow::Result<Splits> {
    let open = |split| Ok::<Arc<dyn Dataset>, Error>(Arc::new(Stl10Dataset::open(path, split)?));
    let has = |file: &str| path.join(file).is_file();
    if !has("train_X.bin") {
        return Ok(Splits::of(source, open(Stl10Split::Unlabelled)?, None));
    }
    let test = if has("test_X.bin") { Some(open(Stl10Split::Test)?) } else { None };
    let mut splits = Splits::of(source, open(Stl10Split::Train)?, test);
    if has("unlabeled_X.bin") {
        splits.pretraining = Some(open(Stl10Split::TrainAndUnlabelled)?);
    }
    Ok(splits)
}

/// A parquet file.
fn table(source: &str, file: &Path, column: Option<&str>, reading: Reading) -> anyhow::Result<Splits> {
    let wrong = |reason: String| Error::DataSet { name: source.into(), reason };
    if !file.is_file() {
        let hint = if source.contains(['/', '\\', '.']) { "" } else { ", and the bundled set is called emoji" };
        return Err(wrong(format!("there is no such file or folder{hint}; see `equimod list datasets`")).into());
    }
    if is_image(file) {
        return Err(wrong("it is one image, not a data set; give the folder that it is in".into()).into());
    }
    let table = ParquetDataset::open(file, column)?.oriented(reading.oriented);
    Ok(Splits::of(source, Arc::new(table), None))
}

fn folder(source: &str, path: &Path, column: Option<&str>, reading: Reading) -> anyhow::Result<Splits> {
    if ShardsDataset::is_at(path) {
        return Ok(Splits::of(source, Arc::new(ShardsDataset::open(path)?.oriented(reading.oriented)), None));
    }
    let tables = tables_below(path)?;
    let asked = column.and_then(Asked::of);
    if !tables.is_empty() || (column.is_some() && asked.is_none()) {
        return of_tables(source, &tables, column, reading);
    }
    let Layout { splits, left_out } = Layout::of(path, asked)?;
    if splits.is_empty() {
        return Ok(Splits::of(source, images(path, reading)?, None));
    }
    let inside = |path: &PathBuf| match layout::holds_images(path) {
        true => images(path, reading),
        // Tables or shards.
        false => found(&path.display().to_string(), reading).map(|splits| splits.train),
    };
    let open = |split: &str| splits.get(split).map(inside).transpose();
    let splits = match (open("train")?, open("validation")?, open("test")?) {
        (Some(train), validation, test) => Splits::of(source, train, test).or_validation(validation),
        (None, Some(train), test) => Splits::of(source, train, test),
        (None, None, only) => Splits::of(source, only.map_or_else(|| images(path, reading), Ok)?, None),
    };
    Ok(Splits { left_out, ..splits })
}

/// All images below a folder, whatever its sub-folders are called. Says what it was taken for.
pub fn all_images(path: &Path) -> anyhow::Result<Arc<dyn Dataset>> {
    let source = path.display().to_string();
    let splits = Splits::of(&source, images(path, Reading::default())?, None);
    output::note_once(&layout::line(&source, &splits));
    Ok(splits.train)
}

/// The images below a folder.
fn images(path: &Path, reading: Reading) -> anyhow::Result<Arc<dyn Dataset>> {
    Ok(Arc::new(FolderDataset::open(path)?.oriented(reading.oriented)))
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

/// Splits of parquet files: `train`, `validation` and `test`.
fn of_tables(
    source: &str,
    tables: &BTreeMap<String, Vec<PathBuf>>,
    column: Option<&str>,
    reading: Reading,
) -> anyhow::Result<Splits> {
    let join = |split: &str| -> anyhow::Result<Option<Arc<dyn Dataset>>> {
        let Some(files) = tables.get(split) else { return Ok(None) };
        let parts: Vec<Arc<dyn Dataset>> = ParquetDataset::open_all(files, column)?
            .into_iter()
            .map(|table| Arc::new(table.oriented(reading.oriented)) as Arc<dyn Dataset>)
            .collect();
        Ok(Some(Arc::new(Concat::new(&format!("{source} ({split})"), parts)?)))
    };
    let (train, validation, test) = (join("train")?, join("validation")?, join("test")?);
    match (train, validation, test) {
        (Some(train), validation, test) => Ok(Splits::of(source, train, test).or_validation(validation)),
        (None, None, Some(only)) | (None, Some(only), None) => Ok(Splits::of(source, only, None)),
        (None, Some(train), test) => Ok(Splits::of(source, train, test)),
        (None, None, None) => {
            Err(Error::DataSet { name: source.into(), reason: "it has no parquet files of a split".into() }.into())
        }
    }
}
