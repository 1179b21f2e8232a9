//! The bytes that the command brings along: the emoji pictures and the built-in recipes.

use std::sync::Arc;

use equimod_data::{Concat, Dataset, ParquetDataset, Result};
use equimod_train::BuiltIn;

/// The licence notice of the bundled pictures.
pub const NOTICE: &str = include_str!("../assets/emoji/NOTICE.md");

macro_rules! recipe {
    ($name:literal) => {
        BuiltIn { name: $name, text: include_str!(concat!("../assets/recipes/", $name, ".toml")) }
    };
}

/// The built-in recipes.
pub const RECIPES: [BuiltIn; 18] = [
    recipe!("quick"),
    recipe!("quick-byol"),
    recipe!("quick-barlow-twins"),
    recipe!("quick-vicreg"),
    recipe!("quick-simsiam"),
    recipe!("quick-moco-v3"),
    recipe!("simclr-cifar10"),
    recipe!("simclr-equimod-cifar10"),
    recipe!("simclr-matched-cifar10"),
    recipe!("byol-cifar10"),
    recipe!("byol-equimod-cifar10"),
    recipe!("byol-matched-cifar10"),
    recipe!("simclr-imagenet"),
    recipe!("simclr-equimod-imagenet"),
    recipe!("simclr-matched-imagenet"),
    recipe!("byol-imagenet"),
    recipe!("byol-equimod-imagenet"),
    recipe!("byol-matched-imagenet"),
];

/// The built-in suites: names and texts.
pub const SUITES: [(&str, &str); 3] = [
    ("emoji", include_str!("../assets/suites/emoji.toml")),
    ("fine-grained-11", include_str!("../assets/suites/fine-grained-11.toml")),
    ("cub-dogs-stl-eurosat", include_str!("../assets/suites/cub-dogs-stl-eurosat.toml")),
];

/// One design's pictures of one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Google's.
    NotoTrain,
    /// Google's.
    NotoTest,
    /// Twitter's.
    TwemojiTrain,
    /// Twitter's.
    TwemojiTest,
}

/// Reads one part.
pub fn emoji_part(part: Part) -> Result<Arc<dyn Dataset>> {
    let (name, bytes): (&str, &'static [u8]) = match part {
        Part::NotoTrain => ("emoji noto-train", include_bytes!("../assets/emoji/noto-train.parquet")),
        Part::NotoTest => ("emoji noto-test", include_bytes!("../assets/emoji/noto-test.parquet")),
        Part::TwemojiTrain => ("emoji twemoji-train", include_bytes!("../assets/emoji/twemoji-train.parquet")),
        Part::TwemojiTest => ("emoji twemoji-test", include_bytes!("../assets/emoji/twemoji-test.parquet")),
    };
    Ok(Arc::new(ParquetDataset::from_bytes(name, bytes.into(), None)?.with_notice(NOTICE)))
}

/// Parts one after the other.
pub fn emoji(name: &str, parts: &[Part]) -> Result<Arc<dyn Dataset>> {
    let parts = parts.iter().map(|&part| emoji_part(part)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Concat::new(name, parts)?))
}
