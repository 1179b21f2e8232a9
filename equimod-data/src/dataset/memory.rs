//! Pictures in memory.

use sha2::{Digest, Sha256};

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Decoded pictures with labels: for sources that another library reads, tests and benchmarks.
pub struct MemoryDataset {
    name: String,
    pictures: Vec<Image>,
    tasks: Vec<Task>,
    labels: Vec<Vec<Option<u32>>>,
}

impl MemoryDataset {
    /// Pictures without labels.
    pub fn new(name: &str, pictures: Vec<Image>) -> Result<Self> {
        match pictures.is_empty() {
            true => Err(Error::data_set(name, "it holds no pictures")),
            false => Ok(Self { name: name.into(), pictures, tasks: Vec::new(), labels: Vec::new() }),
        }
    }

    /// Adds a column of labels, one a picture, each below the number of classes.
    pub fn with_task(mut self, task: Task, labels: Vec<Option<u32>>) -> Result<Self> {
        let fit = labels.len() == self.pictures.len()
            && labels.iter().flatten().all(|&label| (label as usize) < task.classes.len());
        if !fit {
            let text = format!("its labels {} do not fit its pictures and classes", task.name);
            return Err(Error::data_set(self.name, text));
        }
        self.tasks.push(task);
        self.labels.push(labels);
        Ok(self)
    }

    fn picture(&self, index: usize) -> Result<&Image> {
        self.pictures.get(index).ok_or_else(|| Error::data_set(&self.name, format!("it has no picture {index}")))
    }
}

impl Dataset for MemoryDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.picture(index).cloned()
    }

    fn size(&self, index: usize) -> Result<Size> {
        self.picture(index).map(Image::size)
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        *self.labels.get(task)?.get(index)?
    }

    fn key(&self, index: usize) -> String {
        format!("{}, picture {index}", self.name)
    }

    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for picture in &self.pictures {
            hash.update(format!("{} ", picture.size()));
            hash.update(picture.pixels());
        }
        Ok(crate::hexadecimal(&hash.finalize()))
    }
}
