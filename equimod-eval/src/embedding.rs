//! Features as a file: safetensors, npy, csv or parquet.

mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use equimod_core::checkpoint::{to_bytes, write_atomic};

use crate::error::refuse;
use crate::features::Features;
use crate::{Error, Result};

/// A kind of file, told by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.safetensors`: `features` `[pictures, features]` in f32, `labels.<task>` `[pictures]` in i64 (−1: no label), `split`
    /// `[pictures]` in i64 (places in the metadata's `splits`); keys, splits and class names as JSON in the metadata.
    Safetensors,
    /// `.npy`: the features in f32; splits, keys and labels in a table beside it, `.labels.csv`.
    Npy,
    /// `.csv`: split, key, the class of each task, and a column a feature.
    Csv,
    /// `.parquet`: the same columns, features in f32.
    Parquet,
}

impl Format {
    /// The kind that the ending of `path` names.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "safetensors" => Ok(Self::Safetensors),
            "npy" => Ok(Self::Npy),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => refuse(format!(
                "{} does not say what kind of file is wanted; end it in .safetensors, .npy, .csv or .parquet",
                path.display()
            )),
        }
    }
}

/// The labels of one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// Its name.
    pub task: String,
    /// The name of each class.
    pub classes: Vec<String>,
    /// The class of each picture, if it has one.
    pub of: Vec<Option<u32>>,
}

impl Labels {
    /// The name of a picture's class; empty without one.
    fn name(&self, row: usize) -> &str {
        self.of[row].and_then(|label| self.classes.get(label as usize)).map_or("", String::as_str)
    }
}

/// Features with what is known of their pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// One row a picture.
    pub features: Features,
    /// The split of each.
    splits: Vec<String>,
    keys: Vec<String>,
    labels: Vec<Labels>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { features: Features::none(), splits: Vec::new(), keys: Vec::new(), labels: Vec::new() }
    }
}

impl Embedded {
    /// Number of pictures.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Adds the pictures of a split, whose tasks must be those of the splits before.
    pub fn add(&mut self, split: &str, features: &Features, keys: Vec<String>, labels: Vec<Labels>) -> Result<()> {
        if self.keys.is_empty() {
            (self.features, self.labels) = (features.clone(), labels);
        } else {
            self.features = self.features.joined(features)?;
            let same = |(a, b): (&Labels, &Labels)| a.task == b.task && a.classes == b.classes;
            if self.labels.len() != labels.len() || !self.labels.iter().zip(&labels).all(same) {
                return refuse(format!("the pictures of the split {split} have other labels; write it by itself"));
            }
            self.labels.iter_mut().zip(labels).for_each(|(all, more)| all.of.extend(more.of));
        }
        self.splits.extend(std::iter::repeat_n(split.to_owned(), keys.len()));
        self.keys.extend(keys);
        Ok(())
    }

    /// Writes the file at once, or not at all.
    pub fn write(&self, path: &Path, format: Format) -> Result<()> {
        if self.rows() == 0 {
            return refuse("there is no picture of these splits to write features of");
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
        for labels in &self.labels {
            let places: Vec<i64> = labels.of.iter().map(|label| label.map_or(-1, i64::from)).collect();
            tensors.insert(format!("labels.{}", labels.task), Tensor::new(places, &Device::Cpu)?);
        }
        let mut names: Vec<&String> = Vec::new();
        let mut places = Vec::with_capacity(self.splits.len());
        for split in &self.splits {
            let place = names.iter().position(|name| *name == split).unwrap_or_else(|| {
                names.push(split);
                names.len() - 1
            });
            places.push(place as i64);
        }
        tensors.insert("split".into(), Tensor::new(places, &Device::Cpu)?);
        let classes: BTreeMap<&str, &Vec<String>> =
            self.labels.iter().map(|labels| (labels.task.as_str(), &labels.classes)).collect();
        let about = serde_json::json!({ "splits": names, "keys": self.keys, "classes": classes });
        Ok(to_bytes(&tensors, &about.to_string())?)
    }
}

/// What writing a table into memory can fail with, as this crate's error.
fn unwritten(error: impl std::fmt::Display) -> Error {
    Error::Protocol(format!("the table of features cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pictures of two splits, one without a label.
    pub(super) fn three() -> Embedded {
        let mut all = Embedded::default();
        let labels = |of: Vec<Option<u32>>| {
            vec![Labels { task: "kind".into(), classes: vec!["a".into(), "b, \"c\"".into()], of }]
        };
        let features = Features::new(2, 2, vec![0.5, -1.25, 3.0e-8, 4.0]).unwrap();
        all.add("train", &features, vec!["x".into(), "y".into()], labels(vec![Some(1), None])).unwrap();
        let features = Features::new(1, 2, vec![7.0, 8.0]).unwrap();
        all.add("test", &features, vec!["z".into()], labels(vec![Some(0)])).unwrap();
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
    fn endings_say_the_kind() {
        assert_eq!(Format::of(Path::new("a/b.NPY")).unwrap(), Format::Npy);
        assert!(Format::of(Path::new("b.txt")).unwrap_err().to_string().contains(".parquet"));
    }
}
