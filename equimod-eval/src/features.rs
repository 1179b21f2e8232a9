//! Features of a frozen backbone over a data set, computed once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use equimod_core::checkpoint::{from_bytes, read_file, sha256, to_bytes, write_atomic};
use equimod_core::{Model, Tap};
use equimod_data::{Dataset, Image, Size};
use rayon::prelude::*;

use crate::error::refuse;
use crate::input::{Crop, Input};
use crate::{Error, Result};

/// Pictures that go through the backbone together.
const BATCH: usize = 128;

/// One row of features a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    /// Pictures that did not decode, in order; their rows are zeros.
    left_out: Vec<usize>,
}

impl Features {
    /// Wraps row-major values; all must be finite.
    pub fn new(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self> {
        if values.len() != rows * columns || columns == 0 {
            return refuse(format!(
                "{rows} rows of {columns} features need {} values, got {}",
                rows * columns,
                values.len()
            ));
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let (row, column) = (bad / columns, bad % columns);
            return refuse(format!(
                "the features of picture {row} are not finite (column {column}); check the weights"
            ));
        }
        Ok(Self { rows, columns, values, left_out: Vec::new() })
    }

    /// No picture.
    pub(crate) fn none() -> Self {
        Self { rows: 0, columns: 0, values: Vec::new(), left_out: Vec::new() }
    }

    /// The same, without the pictures `left_out`, in order, which did not decode.
    pub fn without(self, left_out: Vec<usize>) -> Self {
        Self { left_out, ..self }
    }

    /// Pictures that did not decode, in order.
    pub fn left_out(&self) -> &[usize] {
        &self.left_out
    }

    /// Number of pictures.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The features of one picture.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// The rows at `indices`, in this order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.row(i)).copied().collect();
        let kept = indices.iter().enumerate().filter(|(_, i)| self.left_out.binary_search(i).is_ok());
        let left_out = kept.map(|(place, _)| place).collect();
        Self { rows: indices.len(), columns: self.columns, values, left_out }
    }

    /// These rows, then those of `other`.
    pub fn joined(&self, other: &Self) -> Result<Self> {
        if self.columns != other.columns {
            return refuse(format!("rows of {} and {} features cannot be joined", self.columns, other.columns));
        }
        let values = [self.values.as_slice(), &other.values].concat();
        let others = other.left_out.iter().map(|picture| self.rows + picture);
        let left_out = self.left_out.iter().copied().chain(others).collect();
        Ok(Self { rows: self.rows + other.rows, columns: self.columns, values, left_out })
    }

    /// The rows less their mean.
    pub fn centred(&self) -> Self {
        let mut mean = vec![0f64; self.columns];
        for row in self.values.chunks_exact(self.columns) {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / self.rows as f64);
        }
        let values = self.values.iter().zip(mean.iter().cycle()).map(|(&v, m)| (f64::from(v) - m) as f32).collect();
        Self { values, ..self.clone() }
    }

    /// The rows divided by their length (at least 1e-12).
    pub fn normalised(&self) -> Self {
        let mut values = self.values.clone();
        values.par_chunks_exact_mut(self.columns).for_each(|row| {
            let length = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        });
        Self { values, ..self.clone() }
    }
}

/// Computes features, and keeps them in a folder if one is given.
pub struct Extractor<'a> {
    model: &'a Model,
    input: Input,
    cache: Option<PathBuf>,
}

impl<'a> Extractor<'a> {
    /// An extractor for the pooled features of `model`; `cache` is a folder for what was computed.
    pub fn new(model: &'a Model, cache: Option<&Path>) -> Self {
        let input = Input { size: model.preprocessing.size, crop: Crop::Centre };
        Self { model, input, cache: cache.map(Path::to_owned) }
    }

    /// The same with pictures brought to another input.
    pub fn with_input(self, input: Input) -> Self {
        Self { input, ..self }
    }

    /// Features of every picture that decodes: brought to the input (by default the shorter side to the network's size, bicubic,
    /// centre crop), the network's own normalisation, evaluation mode.
    pub fn features(&self, dataset: &dyn Dataset) -> Result<Features> {
        let Some(folder) = &self.cache else { return self.compute(dataset) };
        let preprocessing = serde_json::to_string(&(&self.model.preprocessing, self.input)).unwrap_or_default();
        let key = sha256(format!("{} {} {preprocessing}", self.model.sha256, dataset.contents()?).as_bytes());
        let path = folder.join(format!("{}.safetensors", &key[..32]));
        if let Some(features) = self.read(&path) {
            return Ok(features);
        }
        let features = self.compute(dataset)?;
        std::fs::create_dir_all(folder).map_err(|source| Error::Io {
            action: "create",
            path: folder.clone(),
            source,
        })?;
        let tensor = Tensor::from_slice(&features.values, (features.rows, features.columns), &Device::Cpu)?;
        let mut tensors = BTreeMap::from([("features".to_owned(), tensor)]);
        if !features.left_out.is_empty() {
            let left_out: Vec<i64> = features.left_out.iter().map(|&picture| picture as i64).collect();
            tensors.insert("left_out".to_owned(), Tensor::new(left_out, &Device::Cpu)?);
        }
        write_atomic(&path, &to_bytes(&tensors, "{}")?)?;
        Ok(features)
    }

    /// What is cached, if it can be read; anything else is computed anew.
    fn read(&self, path: &Path) -> Option<Features> {
        let file = from_bytes(&read_file(path).ok()?, path, &Device::Cpu).ok()?;
        let tensor = file.tensors.get("features")?;
        let (rows, columns) = tensor.dims2().ok()?;
        let left_out = match file.tensors.get("left_out") {
            Some(tensor) => tensor.to_vec1::<i64>().ok()?.into_iter().map(|picture| picture as usize).collect(),
            None => Vec::new(),
        };
        let features = Features::new(rows, columns, tensor.flatten_all().ok()?.to_vec1().ok()?).ok()?;
        Some(features.without(left_out))
    }

    fn compute(&self, dataset: &dyn Dataset) -> Result<Features> {
        let (mut values, mut left_out) = (Vec::new(), Vec::new());
        let indices: Vec<usize> = (0..dataset.len()).collect();
        let blank = Image::new(Size::square(self.input.size), vec![0; 3 * self.input.size.pow(2)])?;
        for batch in indices.chunks(BATCH) {
            let images = seen(dataset, batch, self.input)?;
            left_out.extend(batch.iter().zip(&images).filter(|(_, image)| image.is_none()).map(|(&i, _)| i));
            let images: Vec<Image> = images.into_iter().map(|image| image.unwrap_or_else(|| blank.clone())).collect();
            values.extend(self.at(Tap::Pooled, &images)?.flatten_all()?.to_vec1::<f32>()?);
        }
        let columns = self.model.backbone().features();
        left_out.iter().for_each(|&picture| values[picture * columns..][..columns].fill(0.0));
        Ok(Features::new(dataset.len(), columns, values)?.without(left_out))
    }

    /// The features `[pictures, features]` that `tap` takes of pictures of one size.
    pub fn at(&self, tap: Tap, images: &[Image]) -> Result<Tensor> {
        let size = images.first().map_or(Size::square(self.input.size), Image::size);
        if images.iter().any(|image| image.size() != size) {
            return refuse("pictures of different sizes cannot go through the backbone together");
        }
        let pixels: Vec<u8> = images.iter().flat_map(|image| image.pixels()).copied().collect();
        Ok(self.model.features(&pixels, (images.len(), size.height, size.width))?.at(tap)?.to_dtype(DType::F32)?)
    }
}

/// The pictures at `indices` as the network sees them; `None` where one does not decode.
pub(crate) fn seen(dataset: &dyn Dataset, indices: &[usize], input: Input) -> Result<Vec<Option<Image>>> {
    let look = |&index: &usize| match dataset.image(index) {
        Ok(image) => Ok(Some(input.view(&image))),
        Err(equimod_data::Error::Picture { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    };
    indices.par_iter().map(look).collect()
}

/// Labelled features: the pictures that belong to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// One row a picture.
    pub features: Features,
    /// The class of each.
    pub labels: Vec<u32>,
    /// Number of classes of the task.
    pub classes: usize,
    /// The place of each row's picture in its data set.
    pub pictures: Vec<usize>,
}

impl Labelled {
    /// Wraps features with labels, each below `classes`; both must be there.
    pub fn new(features: Features, labels: Vec<u32>, classes: usize) -> Result<Self> {
        if features.rows() != labels.len() {
            return refuse(format!("{} pictures have {} labels", features.rows(), labels.len()));
        }
        if labels.is_empty() {
            return refuse("no picture belongs to the task; choose another one");
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            return refuse(format!("a label is {label}, but there are {classes} classes"));
        }
        let pictures = (0..labels.len()).collect();
        Ok(Self { features, labels, classes, pictures })
    }

    /// The pictures of `dataset` that belong to its task number `task`, from the features of all.
    pub fn of_task(all: &Features, dataset: &dyn Dataset, task: usize) -> Result<Self> {
        let pictures = (0..dataset.len()).filter(|i| all.left_out.binary_search(i).is_err());
        let rows: Vec<(usize, u32)> = pictures.filter_map(|i| dataset.label(task, i).map(|label| (i, label))).collect();
        let indices: Vec<usize> = rows.iter().map(|r| r.0).collect();
        let classes = dataset.tasks().get(task).map_or(0, |t| t.classes.len());
        let labelled = Self::new(all.select(&indices), rows.iter().map(|r| r.1).collect(), classes)?;
        Ok(Self { pictures: indices, ..labelled })
    }

    /// The rows at `indices`.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            features: self.features.select(indices),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            classes: self.classes,
            pictures: indices.iter().map(|&i| self.pictures[i]).collect(),
        }
    }

    /// How many classes have a picture.
    pub fn present(&self) -> usize {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        labels.dedup();
        labels.len()
    }
}
