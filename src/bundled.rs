//! Files that are compiled in: the emoji images, the built-in recipes, suites and studies.
//!
//! They belong to this package, not to the libraries, so that a program that uses a library alone does not carry them.

use std::sync::Arc;

use equimod_data::{Concat, Dataset, Designs, ParquetDataset, Result, Splits};
use equimod_train::BuiltIn;

/// License notice of the emoji images.
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

/// The built-in suites: names and TOML texts.
pub const SUITES: [(&str, &str); 3] = [
    ("emoji", include_str!("../assets/suites/emoji.toml")),
    ("fine-grained-11", include_str!("../assets/suites/fine-grained-11.toml")),
    ("cub-dogs-stl-eurosat", include_str!("../assets/suites/cub-dogs-stl-eurosat.toml")),
];

/// The built-in studies: names and TOML texts.
pub const STUDIES: [(&str, &str); 6] = [
    ("emoji", include_str!("../studies/emoji.toml")),
    ("emoji-tuning", include_str!("../studies/emoji-tuning.toml")),
    ("emoji-ablations", include_str!("../studies/emoji-ablations.toml")),
    ("cifar10-small", include_str!("../studies/cifar10-small.toml")),
    ("cifar10", include_str!("../studies/cifar10.toml")),
    ("imagenet100", include_str!("../studies/imagenet100.toml")),
];

/// One design's images of one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmojiPart {
    /// Noto (Google), training images.
    NotoTrain,
    /// Noto (Google), test images.
    NotoTest,
    /// Twemoji (Twitter), training images.
    TwemojiTrain,
    /// Twemoji (Twitter), test images.
    TwemojiTest,
}

/// One part of the emoji images.
///
/// # Errors
/// If the table cannot be read, which the tests rule out.
pub fn emoji_part(part: EmojiPart) -> Result<Arc<dyn Dataset>> {
    let (name, bytes): (&str, &'static [u8]) = match part {
        EmojiPart::NotoTrain => ("emoji noto-train", include_bytes!("../assets/emoji/noto-train.parquet")),
        EmojiPart::NotoTest => ("emoji noto-test", include_bytes!("../assets/emoji/noto-test.parquet")),
        EmojiPart::TwemojiTrain => ("emoji twemoji-train", include_bytes!("../assets/emoji/twemoji-train.parquet")),
        EmojiPart::TwemojiTest => ("emoji twemoji-test", include_bytes!("../assets/emoji/twemoji-test.parquet")),
    };
    Ok(Arc::new(ParquetDataset::from_bytes(name, bytes.into(), None)?.with_notice(NOTICE)))
}

/// The emoji images as splits: 32 × 32 pixels, first all Noto images, then the same emoji in Twemoji; labels
/// `category`, `subgroup`, `skin_tone` and `flag`.
///
/// # Errors
/// As [`emoji_part`].
pub fn emoji() -> Result<Splits> {
    use EmojiPart::{NotoTest, NotoTrain, TwemojiTest, TwemojiTrain};
    let both = |name: &str, parts: [EmojiPart; 2]| -> Result<Arc<dyn Dataset>> {
        Ok(Arc::new(Concat::new(name, parts.map(emoji_part).into_iter().collect::<Result<_>>()?)?))
    };
    let train = both("emoji-train", [NotoTrain, TwemojiTrain])?;
    let test = both("emoji-test", [NotoTest, TwemojiTest])?;
    let designs = Some(Designs { about: "Noto ↔ Twemoji".into(), one_shot: "flag".into() });
    Ok(Splits { designs, ..Splits::of("emoji", train, Some(test)) })
}
