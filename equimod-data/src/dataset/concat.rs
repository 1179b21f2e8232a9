//! Concatenation of data sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Dataset, Entries, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Several data sets as one, with the tasks that all of them have in common.
pub struct Concat {
    name: String,
    parts: Vec<Arc<dyn Dataset>>,
    tasks: Vec<Task>,
}

impl Concat {
    /// Concatenates `parts`.
    ///
    /// # Errors
    ///
    /// If there are no parts, or their tasks and classes differ.
    pub fn new(name: &str, parts: Vec<Arc<dyn Dataset>>) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(Error::data_set(name, "it has no parts"));
        };
        let tasks = first.tasks().to_vec();
        if let Some(other) = parts.iter().find(|part| part.tasks() != tasks) {
            let text = format!("{} and {} have different labels", first.name(), other.name());
            return Err(Error::data_set(name, text));
        }
        Ok(Self { name: name.into(), parts, tasks })
    }

    /// The part that contains an image, and the image's index in it.
    fn locate(&self, mut index: usize) -> Option<(&dyn Dataset, usize)> {
        for part in &self.parts {
            if index < part.len() {
                return Some((part.as_ref(), index));
            }
            index -= part.len();
        }
        None
    }

    fn at(&self, index: usize) -> Result<(&dyn Dataset, usize)> {
        self.locate(index).ok_or_else(|| Error::data_set(&self.name, format!("it has no image {index}")))
    }
}

impl Concat {
    /// Hash of the results of `of` for all parts.
    fn hashed(&self, of: fn(&dyn Dataset) -> Result<String>) -> Result<String> {
        let mut hash = Sha256::new();
        for part in &self.parts {
            hash.update(of(part.as_ref())?);
        }
        Ok(crate::hexadecimal(&hash.finalize()))
    }
}

impl Dataset for Concat {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    fn image(&self, index: usize) -> Result<Image> {
        let (part, index) = self.at(index)?;
        part.image(index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let (part, index) = self.at(index)?;
        part.encoded(index)
    }

    fn unread(&self) -> BTreeMap<usize, &'static str> {
        let (mut all, mut start) = (BTreeMap::new(), 0);
        for part in &self.parts {
            all.extend(part.unread().into_iter().map(|(index, format)| (start + index, format)));
            start += part.len();
        }
        all
    }

    fn entries(&self) -> Result<Entries<'_>> {
        let parts: Vec<Entries<'_>> = self.parts.iter().map(|part| part.entries()).collect::<Result<_>>()?;
        Ok(Box::new(parts.into_iter().flatten()))
    }

    fn size(&self, index: usize) -> Result<Size> {
        let (part, index) = self.at(index)?;
        part.size(index)
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.locate(index).and_then(|(part, index)| part.label(task, index))
    }

    fn columns(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.parts.iter().flat_map(|part| part.columns()).collect();
        all.into_iter().collect()
    }

    fn text(&self, column: &str, index: usize) -> Option<&str> {
        self.locate(index).and_then(|(part, index)| part.text(column, index))
    }

    fn key(&self, index: usize) -> String {
        self.locate(index).map(|(part, index)| part.key(index)).unwrap_or_default()
    }

    fn notice(&self) -> Option<&str> {
        self.parts.iter().find_map(|part| part.notice())
    }

    fn will_need(&self, indices: &[usize]) {
        let mut start = 0;
        for part in &self.parts {
            let inside = |index: &usize| index.checked_sub(start).filter(|&index| index < part.len());
            part.will_need(&indices.iter().filter_map(inside).collect::<Vec<_>>());
            start += part.len();
        }
    }

    fn fingerprint(&self) -> Result<String> {
        self.hashed(|part| part.fingerprint())
    }

    fn contents(&self) -> Result<String> {
        self.hashed(|part| part.contents())
    }
}
