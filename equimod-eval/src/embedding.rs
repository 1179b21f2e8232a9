//! Files of features: safetensors, npy, csv or parquet.

mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use equimod_core::checkpoint::{to_bytes, write_atomic};

use crate::error::refuse;
use crate::features::Features;
use crate::{Error, Result};

/// File format, chosen by the file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.safetensors`: `features` `[images, features]` in f32, `labels.<task>` `[images]` in i64 (−1 for no label)
    /// and `split` `[images]` in i64 (indices into the metadata's `splits`). Keys, splits and class names are JSON in
    /// the metadata.
    Safetensors,
    /// `.npy`: features `[images, features]` in f32. Splits, keys and labels are in a table beside it, `.labels.csv`.
    Npy,
    /// `.csv`: split, key, the class in each task, and a column for each feature.
    Csv,
    /// `.parquet`: the columns of the CSV file, with features in f32.
    Parquet,
}

impl Format {
    /// The format of the extension of `path`.
    ///
    /// # Errors
    /// If the extension is none of the four.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "safetensors" => Ok(Self::Safetensors),
            "npy" => Ok(Self::Npy),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            "pt" | "pth" => refuse(format!(
                "{} would be a file of PyTorch; use .safetensors, which safetensors.torch.load_file reads",
                path.display()
            )),
            _ => refuse(format!(
                "{} has no known file extension; use .safetensors, .npy, .csv or .parquet",
                path.display()
            )),
        }
    }
}

/// The labels of one task, a column of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelColumn {
    /// Name of the task.
    pub task: String,
    /// Class names.
    pub classes: Vec<String>,
    /// Class index of each image, if it has a label.
    pub labels: Vec<Option<u32>>,
}

impl LabelColumn {
    /// The class name of a row; empty without a label.
    fn class(&self, row: usize) -> &str {
        self.labels[row].and_then(|label| self.classes.get(label as usize)).map_or("", String::as_str)
    }
}

/// Features with splits, keys and labels of their images.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingTable {
    /// Features, one row an image.
    pub features: Features,
    /// Split of each image.
    splits: Vec<String>,
    keys: Vec<String>,
    columns: Vec<LabelColumn>,
}

impl Default for EmbeddingTable {
    fn default() -> Self {
        Self { features: Features::empty(), splits: Vec::new(), keys: Vec::new(), columns: Vec::new() }
    }
}

impl EmbeddingTable {
    /// Number of images.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Appends the images of a split: features `[images, features]`, a key for each image, and label columns.
    ///
    /// # Errors
    /// If the features or the label columns differ from those of earlier splits.
    pub fn add(
        &mut self,
        split: &str,
        features: &Features,
        keys: Vec<String>,
        columns: Vec<LabelColumn>,
    ) -> Result<()> {
        if self.keys.is_empty() {
            (self.features, self.columns) = (features.clone(), columns);
        } else {
            self.features = self.features.concat(features)?;
            let same = |(a, b): (&LabelColumn, &LabelColumn)| a.task == b.task && a.classes == b.classes;
            if self.columns.len() != columns.len() || !self.columns.iter().zip(&columns).all(same) {
                return refuse(format!(
                    "the split {split} has other labels than the splits before; write it by itself"
                ));
            }
            self.columns.iter_mut().zip(columns).for_each(|(all, more)| all.labels.extend(more.labels));
        }
        self.splits.extend(std::iter::repeat_n(split.to_owned(), keys.len()));
        self.keys.extend(keys);
        Ok(())
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// If there are no rows, or the file cannot be written.
    pub fn write(&self, path: &Path, format: Format) -> Result<()> {
        if self.rows() == 0 {
            return refuse("there are no images in these splits, so there are no features to write");
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| Error::Io {
                action: "create",
                path: folder.into(),
                source,
            })?;
        }
        let bytes = match format {
            Format::Safetensors => self.safetensors()?,
            Format::Csv => self.csv(true)?,
            Format::Parquet => self.parquet()?,
            Format::Npy => {
                write_atomic(&path.with_extension("labels.csv"), &self.csv(false)?)?;
                self.npy()?
            }
        };
        Ok(write_atomic(path, &bytes)?)
    }

    fn safetensors(&self) -> Result<Vec<u8>> {
        let (rows, columns) = (self.features.rows(), self.features.columns());
        let features = Tensor::from_slice(self.features.values(), (rows, columns), &Device::Cpu)?;
        let mut tensors = BTreeMap::from([("features".to_owned(), features)]);
        for column in &self.columns {
            let labels: Vec<i64> = column.labels.iter().map(|label| label.map_or(-1, i64::from)).collect();
            tensors.insert(format!("labels.{}", column.task), Tensor::new(labels, &Device::Cpu)?);
        }
        let mut names: Vec<&String> = Vec::new();
        let mut indices = Vec::with_capacity(self.splits.len());
        for split in &self.splits {
            let index = names.iter().position(|name| *name == split).unwrap_or_else(|| {
                names.push(split);
                names.len() - 1
            });
            indices.push(index as i64);
        }
        tensors.insert("split".into(), Tensor::new(indices, &Device::Cpu)?);
        let classes: BTreeMap<&str, &Vec<String>> =
            self.columns.iter().map(|column| (column.task.as_str(), &column.classes)).collect();
        let metadata = serde_json::json!({ "splits": names, "keys": self.keys, "classes": classes });
        Ok(to_bytes(&tensors, &metadata.to_string())?)
    }
}

/// The error of writing a table into memory.
fn table_error(error: impl std::fmt::Display) -> Error {
    Error::Protocol(format!("the table of features cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three images of two splits, one without a label.
    pub(super) fn three() -> EmbeddingTable {
        let mut all = EmbeddingTable::default();
        let columns = |labels: Vec<Option<u32>>| {
            vec![LabelColumn { task: "kind".into(), classes: vec!["a".into(), "b, \"c\"".into()], labels }]
        };
        let features = Features::new(2, 2, vec![0.5, -1.25, 3.0e-8, 4.0]).unwrap();
        all.add("train", &features, vec!["x".into(), "y".into()], columns(vec![Some(1), None])).unwrap();
        let features = Features::new(1, 2, vec![7.0, 8.0]).unwrap();
        all.add("test", &features, vec!["z".into()], columns(vec![Some(0)])).unwrap();
        all
    }

    #[test]
    fn safetensors_hold_features_labels_and_splits() {
        let bytes = three().safetensors().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("features").unwrap().shape(), [3, 2]);
        let integers = |name: &str| -> Vec<i64> {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
        };
        assert_eq!(integers("labels.kind"), [1, -1, 0]);
        assert_eq!(integers("split"), [0, 0, 1]);
    }

    #[test]
    fn extensions_choose_the_format() {
        assert_eq!(Format::of(Path::new("a/b.NPY")).unwrap(), Format::Npy);
        assert!(Format::of(Path::new("b.txt")).unwrap_err().to_string().contains(".parquet"));
    }
}
