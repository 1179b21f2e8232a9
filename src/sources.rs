//! From the name of a source to its pictures.

use std::path::Path;
use std::sync::Arc;

use equimod_data::{Dataset, FolderDataset, ParquetDataset};

use crate::bundled::{Part, emoji};

/// Sources: a name, and one line.
pub const SOURCES: [(&str, &str); 3] = [
    ("emoji", "bundled: 3781 Noto and 3781 Twemoji pictures of 32 × 32, labels category, subgroup, skin_tone, flag"),
    ("FOLDER", "pictures (JPEG, PNG, WebP, BMP) in class sub-folders, or unlabelled; train/ and test/ are splits"),
    ("FILE.parquet", "a table in the Hugging Face layout: a column image, labels by their ClassLabel columns"),
];

/// Pictures to train on.
pub fn training(source: &str) -> anyhow::Result<Arc<dyn Dataset>> {
    Ok(splits(source, None)?.train)
}

/// Pictures for an evaluation.
pub struct Splits {
    /// The source's name.
    pub name: String,
    /// To fit on.
    pub train: Arc<dyn Dataset>,
    /// To test on; where there are none, a part of `train` is held out.
    pub test: Option<Arc<dyn Dataset>>,
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

/// The splits of `source`, with `test` pictures from elsewhere if given.
pub fn splits(source: &str, test: Option<&str>) -> anyhow::Result<Splits> {
    let mut splits = if source == "emoji" { emoji_splits()? } else { open(source)? };
    if let Some(test) = test {
        splits.test = Some(open(test)?.train);
    }
    Ok(splits)
}

fn emoji_splits() -> anyhow::Result<Splits> {
    use Part::{NotoTest, NotoTrain, TwemojiTest, TwemojiTrain};
    Ok(Splits {
        name: "emoji".into(),
        train: emoji("emoji-train", &[NotoTrain, TwemojiTrain])?,
        test: Some(emoji("emoji-test", &[NotoTest, TwemojiTest])?),
        designs: Some(Designs { about: "Noto ↔ Twemoji", one_shot: "flag" }),
    })
}

fn open(source: &str) -> anyhow::Result<Splits> {
    let path = Path::new(source);
    let alone = |train| Splits { name: source.into(), train, test: None, designs: None };
    if path.is_file() {
        return Ok(alone(Arc::new(ParquetDataset::open(path)?)));
    }
    if !path.exists() {
        let hint = if source.contains(['/', '\\', '.']) { "" } else { ", and the bundled set is called emoji" };
        let reason = format!("there is no such file or folder{hint}; see `equimod list datasets`");
        return Err(equimod_data::Error::DataSet { name: source.into(), reason }.into());
    }
    let (train, test) = (path.join("train"), path.join("test"));
    if train.is_dir() && test.is_dir() {
        let (train, test) = (FolderDataset::open(&train)?, FolderDataset::open(&test)?);
        return Ok(Splits { name: source.into(), train: Arc::new(train), test: Some(Arc::new(test)), designs: None });
    }
    Ok(alone(Arc::new(FolderDataset::open(path)?)))
}
