//! Sources of pictures with labels.

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

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To train or fit on.
    Train,
    /// To test on.
    Test,
}

/// A column of labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The name of each class; a label is an index into them.
    pub classes: Vec<String>,
}

/// Pictures in a fixed order, with labels for any number of tasks.
pub trait Dataset: Send + Sync {
    /// For people and messages.
    fn name(&self) -> &str;

    /// Number of pictures.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decodes a picture.
    fn image(&self, index: usize) -> Result<Image>;

    /// The bytes of an image's file; `None` where it is not kept as one.
    fn encoded(&self, _index: usize) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// The images that are known not to decode because of their format, each with the format's name.
    fn unread(&self) -> BTreeMap<usize, &'static str> {
        BTreeMap::new()
    }

    /// The contents of a folder that are not images; `None` for other sources.
    fn passed_over(&self) -> Option<&PassedOver> {
        None
    }

    /// The parts that the fingerprint is made of, to say later which of them changed: for a folder its files with their
    /// lengths, for other sources each table or the whole with its fingerprint.
    fn entries(&self) -> Result<Entries<'_>> {
        let name = self.name().rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Ok(Box::new(std::iter::once((name, self.fingerprint()?))))
    }

    /// The size of a picture, from its header.
    fn size(&self, index: usize) -> Result<Size>;

    /// The label columns.
    fn tasks(&self) -> &[Task];

    /// The label of a picture in a task; `None` where it is not part of the task.
    fn label(&self, task: usize, index: usize) -> Option<u32>;

    /// The columns of plain values that go with the images: texts, whole numbers and truth values.
    fn columns(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The value that goes with an image in one of the [`columns`](Self::columns), as text.
    fn text(&self, _column: &str, _index: usize) -> Option<&str> {
        None
    }

    /// The picture's path or row, for messages and logs.
    fn key(&self, index: usize) -> String;

    /// The license notice of the pictures.
    fn notice(&self) -> Option<&str> {
        None
    }

    /// Hexadecimal SHA-256 of what decides a run on these pictures.
    fn fingerprint(&self) -> Result<String>;

    /// The fingerprint, or more where that does not tell contents apart: by what is computed from the pictures on this machine
    /// may be kept.
    fn contents(&self) -> Result<String> {
        self.fingerprint()
    }

    /// Says that these pictures are wanted soon, so that slow storage can read ahead; changes nothing but the time.
    fn will_need(&self, _indices: &[usize]) {}

    /// The sizes of all pictures.
    fn sizes(&self) -> Result<Vec<Size>> {
        (0..self.len()).map(|index| self.size(index)).collect()
    }

    /// The sizes of up to `most` pictures, evenly spaced, without those that cannot be read; at least one must be.
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

    /// The task called `name`.
    fn task(&self, name: &str) -> Result<usize> {
        self.tasks().iter().position(|task| task.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.tasks().iter().map(|task| task.name.as_str()).collect();
            let names = if names.is_empty() { "no labels at all".into() } else { names.join(", ") };
            Error::data_set(self.name(), format!("it has no labels called {name:?}; it has {names}"))
        })
    }
}
