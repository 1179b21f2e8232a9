//! Pooled features of a frozen backbone over a data set, with a cache on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use equimod_core::checkpoint::{from_bytes, read_file, sha256, to_bytes, write_atomic};
use equimod_core::{Model, Tap};
use equimod_data::{Dataset, Image, Size};
use rayon::prelude::*;

use crate::copies;
use crate::error::refuse;
use crate::input::{Crop, InputTransform};
use crate::{Error, Result};

/// Images a forward pass.
const BATCH: usize = 128;

/// Tensor name in cached files of the rows of images that did not decode.
const UNDECODED: &str = "left_out";

/// Features `[images, features]`, one row an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    /// Rows of images that did not decode, ascending; they hold zeros.
    undecoded: Vec<usize>,
}

impl Features {
    /// Wraps `rows × columns` row-major values.
    ///
    /// # Errors
    /// If the number of values does not fit, or if a value is not finite.
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
            return refuse(format!("the features of image {row} are not finite (column {column}); check the weights"));
        }
        Ok(Self { rows, columns, values, undecoded: Vec::new() })
    }

    /// A matrix without rows.
    pub(crate) fn empty() -> Self {
        Self { rows: 0, columns: 0, values: Vec::new(), undecoded: Vec::new() }
    }

    /// Marks the rows `undecoded`, ascending, as images that did not decode.
    pub fn with_undecoded(self, undecoded: Vec<usize>) -> Self {
        Self { undecoded, ..self }
    }

    /// Rows of images that did not decode, ascending.
    pub fn undecoded(&self) -> &[usize] {
        &self.undecoded
    }

    /// How many images of `dataset` did not decode, with the first of them; `None` if all did.
    pub fn undecoded_text(&self, dataset: &dyn Dataset) -> Option<String> {
        let key = dataset.key(*self.undecoded.first()?);
        Some(match self.undecoded.len() {
            1 => format!("1 image does not decode and is left out: {key}"),
            count => format!("{count} images do not decode and are left out: {key}, …"),
        })
    }

    /// Rows of images that decoded, ascending.
    pub fn decoded(&self) -> Vec<usize> {
        (0..self.rows).filter(|row| self.undecoded.binary_search(row).is_err()).collect()
    }

    /// Number of images.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The features of one image, `[features]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// The rows at `indices`, in this order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.row(i)).copied().collect();
        let zeros = indices.iter().enumerate().filter(|(_, i)| self.undecoded.binary_search(i).is_ok());
        let undecoded = zeros.map(|(row, _)| row).collect();
        Self { rows: indices.len(), columns: self.columns, values, undecoded }
    }

    /// These rows, then those of `other`.
    ///
    /// # Errors
    /// If both have another number of features.
    pub fn concat(&self, other: &Self) -> Result<Self> {
        if self.columns != other.columns {
            return refuse(format!("rows of {} and {} features cannot be concatenated", self.columns, other.columns));
        }
        let values = [self.values.as_slice(), &other.values].concat();
        let others = other.undecoded.iter().map(|row| self.rows + row);
        let undecoded = self.undecoded.iter().copied().chain(others).collect();
        Ok(Self { rows: self.rows + other.rows, columns: self.columns, values, undecoded })
    }

    /// The rows minus their mean.
    pub fn centered(&self) -> Self {
        let mut mean = vec![0f64; self.columns];
        for row in self.values.chunks_exact(self.columns) {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / self.rows as f64);
        }
        let values = self.values.iter().zip(mean.iter().cycle()).map(|(&v, m)| (f64::from(v) - m) as f32).collect();
        Self { values, ..self.clone() }
    }

    /// The rows divided by their L2 norm (at least 1e-12).
    pub fn normalized(&self) -> Self {
        let mut values = self.values.clone();
        values.par_chunks_exact_mut(self.columns).for_each(|row| {
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        });
        Self { values, ..self.clone() }
    }
}

/// Computes features, cached in a folder if one is given.
pub struct Extractor<'a> {
    model: &'a Model,
    copies: &'a [Model],
    input: InputTransform,
    cache: Option<PathBuf>,
}

impl<'a> Extractor<'a> {
    /// An extractor of features of `model`, with a center crop of the size of training. Features are cached in `cache`.
    pub fn new(model: &'a Model, cache: Option<&Path>) -> Self {
        let input = InputTransform { size: model.preprocessing.size, crop: Crop::Center };
        Self { model, copies: &[], input, cache: cache.map(Path::to_owned) }
    }

    /// The same extractor with copies of the model on other devices, which share the images with it. The features are
    /// those of one device.
    pub fn with_copies(self, copies: &'a [Model]) -> Self {
        Self { copies, ..self }
    }

    /// The same extractor with images resized and cropped by `input`.
    pub fn with_input(self, input: InputTransform) -> Self {
        Self { input, ..self }
    }

    /// Pooled features `[images, features]` of `dataset` in evaluation mode, with the network's own pixel
    /// normalization. Rows of images that do not decode are zeros and marked.
    ///
    /// # Errors
    /// If the data set cannot be read, features are not finite, or the cache cannot be written.
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
        if !features.undecoded.is_empty() {
            let undecoded: Vec<i64> = features.undecoded.iter().map(|&row| row as i64).collect();
            tensors.insert(UNDECODED.to_owned(), Tensor::new(undecoded, &Device::Cpu)?);
        }
        write_atomic(&path, &to_bytes(&tensors, "{}")?)?;
        Ok(features)
    }

    /// The cached features, if they can be read; otherwise they are computed again.
    fn read(&self, path: &Path) -> Option<Features> {
        let file = from_bytes(&read_file(path).ok()?, path, &Device::Cpu).ok()?;
        let tensor = file.tensors.get("features")?;
        let (rows, columns) = tensor.dims2().ok()?;
        let undecoded = match file.tensors.get(UNDECODED) {
            Some(tensor) => tensor.to_vec1::<i64>().ok()?.into_iter().map(|row| row as usize).collect(),
            None => Vec::new(),
        };
        let features = Features::new(rows, columns, tensor.flatten_all().ok()?.to_vec1().ok()?).ok()?;
        Some(features.with_undecoded(undecoded))
    }

    fn compute(&self, dataset: &dyn Dataset) -> Result<Features> {
        let (mut values, mut undecoded) = (Vec::new(), Vec::new());
        let indices: Vec<usize> = (0..dataset.len()).collect();
        let blank = Image::new(Size::square(self.input.size), vec![0; 3 * self.input.size.pow(2)])?;
        let models: Vec<&Model> = std::iter::once(self.model).chain(self.copies).collect();
        let batches: Vec<&[usize]> = indices.chunks(BATCH).collect();
        let of_batches = copies::shared(&models, &batches, |model, batch| {
            let images = load_inputs(dataset, batch, self.input)?;
            let undecoded = batch.iter().zip(&images).filter(|(_, image)| image.is_none()).map(|(&i, _)| i);
            let undecoded: Vec<usize> = undecoded.collect();
            let images: Vec<Image> = images.into_iter().map(|image| image.unwrap_or_else(|| blank.clone())).collect();
            Ok((self.features_at(model, Tap::Pooled, &images)?.flatten_all()?.to_vec1::<f32>()?, undecoded))
        })?;
        for (of_batch, undecoded_of_batch) in of_batches {
            values.extend(of_batch);
            undecoded.extend(undecoded_of_batch);
        }
        let columns = self.model.backbone().features();
        undecoded.iter().for_each(|&row| values[row * columns..][..columns].fill(0.0));
        Ok(Features::new(dataset.len(), columns, values)?.with_undecoded(undecoded))
    }

    /// The features `[images, features]` at `tap` of images of one size, which enter the network as they are.
    ///
    /// # Errors
    /// If the images have different sizes, or if the network cannot take their size.
    pub fn tap_features(&self, tap: Tap, images: &[Image]) -> Result<Tensor> {
        self.features_at(self.model, tap, images)
    }

    fn features_at(&self, model: &Model, tap: Tap, images: &[Image]) -> Result<Tensor> {
        let size = images.first().map_or(Size::square(self.input.size), Image::size);
        if images.iter().any(|image| image.size() != size) {
            return refuse("images of different sizes cannot go through the backbone together");
        }
        let pixels: Vec<u8> = images.iter().flat_map(|image| image.pixels()).copied().collect();
        Ok(model.features(&pixels, (images.len(), size.height, size.width))?.at(tap)?.to_dtype(DType::F32)?)
    }
}

/// The images at `indices`, resized and cropped; `None` for an image that does not decode.
pub(crate) fn load_inputs(
    dataset: &dyn Dataset,
    indices: &[usize],
    input: InputTransform,
) -> Result<Vec<Option<Image>>> {
    let load = |&index: &usize| match dataset.image(index) {
        Ok(image) => Ok(Some(input.apply(&image))),
        Err(equimod_data::Error::Image { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    };
    indices.par_iter().map(load).collect()
}

/// Features `[images, features]` with a class label for each image.
#[derive(Clone, Debug, PartialEq)]
pub struct Labeled {
    /// Features, one row an image.
    pub features: Features,
    /// Class index of each image.
    pub labels: Vec<u32>,
    /// Number of classes of the task.
    pub classes: usize,
    /// Index of each row's image in its data set.
    pub indices: Vec<usize>,
}

impl Labeled {
    /// Wraps features with labels.
    ///
    /// # Errors
    /// If there are no images, if the numbers of rows and labels differ, or if a label is not below `classes`.
    pub fn new(features: Features, labels: Vec<u32>, classes: usize) -> Result<Self> {
        if features.rows() != labels.len() {
            return refuse(format!("{} images have {} labels", features.rows(), labels.len()));
        }
        if labels.is_empty() {
            return refuse("no image belongs to the task; choose another one");
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            return refuse(format!("a label is {label}, but there are {classes} classes"));
        }
        let indices = (0..labels.len()).collect();
        Ok(Self { features, labels, classes, indices })
    }

    /// The images of `dataset` with a label in its task number `task`, from the features of all images.
    ///
    /// # Errors
    /// If no image has a label in the task.
    pub fn of_task(all: &Features, dataset: &dyn Dataset, task: usize) -> Result<Self> {
        let labeled = |i: usize| dataset.label(task, i).map(|label| (i, label));
        let rows: Vec<(usize, u32)> = all.decoded().into_iter().filter_map(labeled).collect();
        let indices: Vec<usize> = rows.iter().map(|r| r.0).collect();
        let classes = dataset.tasks().get(task).map_or(0, |t| t.classes.len());
        let labeled = Self::new(all.select(&indices), rows.iter().map(|r| r.1).collect(), classes)?;
        Ok(Self { indices, ..labeled })
    }

    /// The rows at `indices`.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            features: self.features.select(indices),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            classes: self.classes,
            indices: indices.iter().map(|&i| self.indices[i]).collect(),
        }
    }

    /// Number of classes with at least one image.
    pub fn present(&self) -> usize {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        labels.dedup();
        labels.len()
    }
}
