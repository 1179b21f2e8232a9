//! Opening of a source by its name: the bundled set, the Hub, MNIST, or files on this machine.

use std::path::Path;
use std::sync::Arc;

use equimod_data::source::{ReadOptions, describe, from_tables, images, open};
use equimod_data::{Dataset, Splits};

use crate::hub::{self, SplitSelection};
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::reference::{PREFIX, Reference, plain_name};

/// Kinds of sources, each with a one-line description.
pub const SOURCES: [(&str, &str); 9] = [
    (
        "emoji",
        "bundled: 3781 Noto and 3781 Twemoji images of 32 × 32 pixels, labels category, subgroup, skin-tone, flag",
    ),
    (
        "FOLDER",
        "images (JPEG, PNG, WebP, BMP, GIF, TIFF) in class sub-folders, or unlabeled; train/, val/, test/ are splits \
         (write FOLDER#classes or FOLDER#splits if there are other folders of images next to them)",
    ),
    ("FOLDER of CIFAR-10, CIFAR-100, STL-10", "their binary versions, unpacked (CIFAR also as its .tar.gz)"),
    ("FOLDER of MNIST, Fashion-MNIST", "their four idx files, unpacked (a build with the feature mnist)"),
    (
        "FOLDER of parquet files[#COLUMN]",
        "tables in the Hugging Face layout, splits by their names: train-….parquet, test-….parquet",
    ),
    (
        "FILE.parquet[#COLUMN]",
        "one such table: images in COLUMN, or by a path such as sample.image; labels by ClassLabel columns or --task",
    ),
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

/// Training images and the name of their source; a data set on the Hub is pinned to the commit that was read.
pub fn training(source: &str, options: ReadOptions) -> anyhow::Result<(Arc<dyn Dataset>, String)> {
    let splits = read(source, options, SplitSelection::Training)?;
    Ok((splits.pretraining.unwrap_or(splits.train), splits.name))
}

/// Splits of `source`.
pub fn splits(source: &str, options: ReadOptions) -> anyhow::Result<Splits> {
    read(source, options, SplitSelection::Evaluation)
}

/// Sources of validation and test images, in place of those of the data set.
#[derive(Clone, Copy, Debug, Default)]
pub struct OtherSources<'a> {
    /// Source of validation images.
    pub validation: Option<&'a str>,
    /// Source of test images.
    pub test: Option<&'a str>,
}

impl OtherSources<'_> {
    /// Splits of `source` with these validation and test images.
    pub fn splits(self, source: &str, options: ReadOptions) -> anyhow::Result<Splits> {
        let mut splits = match self.test {
            Some(_) => read(source, options, SplitSelection::Training)?,
            None => splits(source, options)?,
        };
        // A source with splits of its own has its part for the purpose there; of others, all images are read.
        if let Some(test) = self.test {
            let other = self::splits(test, options)?;
            let images = other.test.unwrap_or(other.train);
            check_apart("--test", test, images.as_ref(), splits.train.as_ref())?;
            (splits.test, splits.designs) = (Some(images), None);
        }
        if let Some(validation) = self.validation {
            let other = self::splits(validation, options)?;
            let images = other.validation.unwrap_or(other.train);
            check_apart("--validation", validation, images.as_ref(), splits.train.as_ref())?;
            splits.validation = Some(images);
        }
        Ok(splits)
    }
}

/// Refuses images to test or validate on that are those on which classifiers are fitted.
fn check_apart(option: &str, source: &str, images: &dyn Dataset, train: &dyn Dataset) -> anyhow::Result<()> {
    if images.fingerprint()? == train.fingerprint()? {
        let text = format!(
            "{option} {source} has the images on which classifiers are fitted, so that accuracies would be of images that \
             they know; give other ones, or leave it out: a part of the images is then held out"
        );
        return Err(Usage(text).into());
    }
    Ok(())
}

fn read(source: &str, options: ReadOptions, wanted: SplitSelection) -> anyhow::Result<Splits> {
    match plain_name(source) {
        "emoji" => Ok(crate::bundled::emoji()?),
        source if source.starts_with(PREFIX) => from_hub(&Reference::parse(source)?, options, wanted),
        source => local(source, options),
    }
}

fn from_hub(reference: &Reference, options: ReadOptions, wanted: SplitSelection) -> anyhow::Result<Splits> {
    let mut fetched = hub::fetch(reference, wanted)?;
    // A single split is used for training, whatever its name.
    if fetched.splits.len() == 1 {
        fetched.splits = fetched.splits.into_values().map(|files| ("train".into(), files)).collect();
    }
    let name = fetched.reference.to_string();
    Ok(from_tables(&name, &fetched.splits, reference.column.as_deref(), options)?)
}

/// A source on this machine. Prints how a folder was read.
fn local(source: &str, options: ReadOptions) -> anyhow::Result<Splits> {
    if let Some(splits) = mnist(source)? {
        return Ok(splits);
    }
    let splits = open(source, options)?;
    let path = if Path::new(source).exists() { source } else { source.split('#').next().unwrap_or(source) };
    if Path::new(path).is_dir() {
        console::note_once(&describe(source, &splits));
    }
    Ok(splits)
}

/// Splits of a folder in the format of MNIST.
#[cfg(feature = "mnist")]
fn mnist(source: &str) -> anyhow::Result<Option<Splits>> {
    if !crate::inputs::mnist::is_at(Path::new(source)) {
        return Ok(None);
    }
    let (train, test) = crate::inputs::mnist::open(Path::new(source))?;
    Ok(Some(Splits::of(source, train, Some(test))))
}

/// Rejects a folder in the format of MNIST.
#[cfg(not(feature = "mnist"))]
fn mnist(source: &str) -> anyhow::Result<Option<Splits>> {
    if Path::new(source).join("train-images-idx3-ubyte").is_file() {
        let text = "is a data set in the format of MNIST, but this build lacks the feature mnist; build with it: cargo \
                    install --path . --features mnist";
        return Err(crate::process::exit::Usage(format!("{source} {text}")).into());
    }
    Ok(None)
}

/// All images below a folder, with its sub-folders as classes, whatever their names. Prints how it was read.
pub fn all_images(path: &Path) -> anyhow::Result<Arc<dyn Dataset>> {
    let source = path.display().to_string();
    let splits = Splits::of(source.as_str(), images(path, ReadOptions::default())?, None);
    console::note_once(&describe(&source, &splits));
    Ok(splits.train)
}

#[cfg(test)]
mod tests {
    use super::*;
    use equimod_data::{Image, Size};
    use std::fs;

    #[test]
    fn other_test_images_are_the_test_split_of_a_source_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image::new(Size { height: 2, width: 2 }, vec![7; 12]).unwrap().encode_png().unwrap();
        for (part, count) in [("train", 3), ("test", 2)] {
            for (class, number) in (0..2).flat_map(|class| (0..count).map(move |number| (class, number))) {
                let place = folder.path().join(part).join(format!("class{class}"));
                fs::create_dir_all(&place).unwrap();
                fs::write(place.join(format!("{number}.png")), &image).unwrap();
            }
        }
        let of = |folder: &Path| {
            let name = folder.display().to_string();
            let others = OtherSources { validation: None, test: Some(&name) };
            others.splits("emoji", ReadOptions::default()).unwrap().test.unwrap().len()
        };
        assert_eq!([of(folder.path()), of(&folder.path().join("train"))], [4, 6]);
    }
}
