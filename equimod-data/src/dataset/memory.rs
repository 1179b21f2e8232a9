//! Images in memory.

use sha2::{Digest, Sha256};

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Decoded images with labels: for sources that another library reads, tests and benchmarks.
pub struct MemoryDataset {
    name: String,
    images: Vec<Image>,
    tasks: Vec<Task>,
    labels: Vec<Vec<Option<u32>>>,
}

impl MemoryDataset {
    /// Creates a data set of images without labels.
    ///
    /// # Errors
    ///
    /// If there are no images.
    pub fn new(name: &str, images: Vec<Image>) -> Result<Self> {
        match images.is_empty() {
            true => Err(Error::data_set(name, "it has no images")),
            false => Ok(Self { name: name.into(), images, tasks: Vec::new(), labels: Vec::new() }),
        }
    }

    /// Adds a task with one label per image, each smaller than the number of classes.
    ///
    /// # Errors
    ///
    /// If the labels do not match the images and classes.
    pub fn with_task(mut self, task: Task, labels: Vec<Option<u32>>) -> Result<Self> {
        let fit = labels.len() == self.images.len()
            && labels.iter().flatten().all(|&label| (label as usize) < task.classes.len());
        if !fit {
            let text = format!("its labels {} do not match its images and classes", task.name);
            return Err(Error::data_set(self.name, text));
        }
        self.tasks.push(task);
        self.labels.push(labels);
        Ok(self)
    }

    fn get(&self, index: usize) -> Result<&Image> {
        self.images.get(index).ok_or_else(|| Error::data_set(&self.name, format!("it has no image {index}")))
    }
}

impl Dataset for MemoryDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.get(index).cloned()
    }

    fn size(&self, index: usize) -> Result<Size> {
        self.get(index).map(Image::size)
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        *self.labels.get(task)?.get(index)?
    }

    fn key(&self, index: usize) -> String {
        format!("{}, image {index}", self.name)
    }

    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for image in &self.images {
            hash.update(format!("{} ", image.size()));
            hash.update(image.pixels());
        }
        Ok(crate::hexadecimal(&hash.finalize()))
    }
}
