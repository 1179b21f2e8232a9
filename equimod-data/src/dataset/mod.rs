//! Data sets: sources of images with labels.

mod cifar;
mod column_labels;
mod concat;
pub mod folder;
mod listing;
mod memory;
mod packed;
mod parquet;
mod shards;
mod stl10;
mod subset;
pub(crate) mod values;

pub use cifar::CifarDataset;
pub use column_labels::{ColumnLabels, MOST_CLASSES, likely_labels};
pub use concat::Concat;
pub use folder::{FolderDataset, PassedOver};
pub use listing::{Changes, Entries, Listing};
pub use memory::MemoryDataset;
pub use packed::{PackConfig, PackSummary, PackedDataset, Storage, pack};
pub use parquet::ParquetDataset;
pub use shards::{IndexConfig, Indexed, ShardsDataset, index_shards};
pub use stl10::{Stl10Dataset, Stl10Split};
pub use subset::Subset;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::{Image, Size};
use crate::{Error, Result};

/// Split of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images to train or fit on.
    Train,
    /// Images to test on.
    Test,
}

/// A column of labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Name of the task.
    pub name: String,
    /// Name of each class; labels are indices into this list.
    pub classes: Vec<String>,
}

/// Images in a fixed order, with labels for any number of tasks.
pub trait Dataset: Send + Sync {
    /// Human-readable name, also used in messages.
    fn name(&self) -> &str;

    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decodes an image.
    ///
    /// # Errors
    ///
    /// If there is no such image, or it cannot be read or decoded.
    fn image(&self, index: usize) -> Result<Image>;

    /// Bytes of an image's file; `None` if the data set does not store files.
    ///
    /// # Errors
    ///
    /// If the data set cannot be read.
    fn encoded(&self, _index: usize) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Images that are known not to decode because of their format, each with the format's name.
    fn unread(&self) -> BTreeMap<usize, &'static str> {
        BTreeMap::new()
    }

    /// Contents of a folder that are not images; `None` for other sources.
    fn passed_over(&self) -> Option<&PassedOver> {
        None
    }

    /// Parts that the fingerprint covers, to report later which of them changed: for a folder, its files with their
    /// lengths; for other sources, each table or the whole with its fingerprint.
    ///
    /// # Errors
    ///
    /// If the data set cannot be read.
    fn entries(&self) -> Result<Entries<'_>> {
        let name = self.name().rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Ok(Box::new(std::iter::once((name, self.fingerprint()?))))
    }

    /// Size of an image, from its header.
    ///
    /// # Errors
    ///
    /// If there is no such image, or its header cannot be read.
    fn size(&self, index: usize) -> Result<Size>;

    /// Label columns.
    fn tasks(&self) -> &[Task];

    /// Label of an image in a task; `None` if the image is not part of the task.
    fn label(&self, task: usize, index: usize) -> Option<u32>;

    /// Names of the columns of plain values that belong to the images: strings, integers and booleans.
    fn columns(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Value of an image in one of the [`columns`](Self::columns), as text.
    fn text(&self, _column: &str, _index: usize) -> Option<&str> {
        None
    }

    /// Path or row of an image, for messages and logs.
    fn key(&self, index: usize) -> String;

    /// License notice of the images.
    fn notice(&self) -> Option<&str> {
        None
    }

    /// Hexadecimal SHA-256 of everything that determines a run on these images.
    ///
    /// # Errors
    ///
    /// If the source cannot be read.
    fn fingerprint(&self) -> Result<String>;

    /// Key of caches on this machine for results computed from the images: the fingerprint, or a stricter hash if the
    /// fingerprint does not identify contents.
    ///
    /// # Errors
    ///
    /// If the data set cannot be read.
    fn contents(&self) -> Result<String> {
        self.fingerprint()
    }

    /// Announces that these images are needed soon, so that slow storage can read ahead; has no effect on results.
    fn will_need(&self, _indices: &[usize]) {}

    /// Sizes of all images.
    ///
    /// # Errors
    ///
    /// If the data set cannot be read.
    fn sizes(&self) -> Result<Vec<Size>> {
        (0..self.len()).map(|index| self.size(index)).collect()
    }

    /// Sizes of up to `most` images, evenly spaced, without images that cannot be read.
    ///
    /// # Errors
    ///
    /// If none of them can be read.
    fn sample_sizes(&self, most: usize) -> Result<Vec<Size>> {
        let count = self.len().min(most);
        let mut failed = None;
        let mut sizes = Vec::with_capacity(count);
        for k in 0..count {
            match self.size(k * self.len() / count) {
                Ok(size) => sizes.push(size),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if sizes.is_empty() => Err(error),
            _ => Ok(sizes),
        }
    }

    /// Index of the task called `name`.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn task(&self, name: &str) -> Result<usize> {
        self.tasks().iter().position(|task| task.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.tasks().iter().map(|task| task.name.as_str()).collect();
            let names = if names.is_empty() { "no labels at all".into() } else { names.join(", ") };
            Error::data_set(self.name(), format!("it has no labels called {name:?}; it has {names}"))
        })
    }
}
