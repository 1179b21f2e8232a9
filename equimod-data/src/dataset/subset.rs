//! Some pictures of a data set.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Dataset, Entries, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// The pictures at given places of another data set, in this order, with its labels and texts.
pub struct Subset {
    whole: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// Takes the pictures of `whole` at `indices`; there must be one, and all must exist.
    pub fn new(whole: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        if indices.is_empty() {
            return Err(Error::data_set(whole.name(), "no picture of it was chosen; choose at least one"));
        }
        if let Some(beyond) = indices.iter().find(|&&index| index >= whole.len()) {
            let text = format!("it has {} pictures, there is no picture {beyond} to choose", whole.len());
            return Err(Error::data_set(whole.name(), text));
        }
        Ok(Self { whole, indices })
    }

    /// The pictures that have a label in the task number `task`.
    pub fn labelled(whole: Arc<dyn Dataset>, task: usize) -> Result<Self> {
        let indices = (0..whole.len()).filter(|&index| whole.label(task, index).is_some()).collect();
        Self::new(whole, indices)
    }

    /// The places of the pictures in the whole data set.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    fn at(&self, index: usize) -> Result<usize> {
        let missing = || Error::data_set(self.name(), format!("{} pictures were chosen, not {index}", self.len()));
        self.indices.get(index).copied().ok_or_else(missing)
    }

    /// `whole`, a hash of all pictures, with the places of those that were chosen.
    fn hashed(&self, whole: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(whole);
        self.indices.iter().for_each(|&index| hash.update((index as u64).to_le_bytes()));
        crate::hexadecimal(&hash.finalize())
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        self.whole.name()
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.whole.image(self.at(index)?)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.whole.encoded(self.at(index)?)
    }

    fn unread(&self) -> BTreeMap<usize, &'static str> {
        let whole = self.whole.unread();
        let of = |(place, index): (usize, &usize)| Some((place, *whole.get(index)?));
        self.indices.iter().enumerate().filter_map(of).collect()
    }

    /// Those of the whole data set.
    fn entries(&self) -> Result<Entries<'_>> {
        self.whole.entries()
    }

    fn size(&self, index: usize) -> Result<Size> {
        self.whole.size(self.at(index)?)
    }

    fn tasks(&self) -> &[Task] {
        self.whole.tasks()
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.whole.label(task, *self.indices.get(index)?)
    }

    fn columns(&self) -> Vec<&str> {
        self.whole.columns()
    }

    fn text(&self, column: &str, index: usize) -> Option<&str> {
        self.whole.text(column, *self.indices.get(index)?)
    }

    fn key(&self, index: usize) -> String {
        self.indices.get(index).map(|&index| self.whole.key(index)).unwrap_or_default()
    }

    fn notice(&self) -> Option<&str> {
        self.whole.notice()
    }

    /// Covers the whole data set and which of its pictures were chosen.
    fn fingerprint(&self) -> Result<String> {
        Ok(self.hashed(&self.whole.fingerprint()?))
    }

    fn contents(&self) -> Result<String> {
        Ok(self.hashed(&self.whole.contents()?))
    }

    fn will_need(&self, indices: &[usize]) {
        let places: Vec<usize> = indices.iter().filter_map(|&index| self.indices.get(index).copied()).collect();
        self.whole.will_need(&places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::MemoryDataset;

    fn five() -> Arc<dyn Dataset> {
        let picture = |shade: u8| Image::new(Size::square(1), vec![shade; 3]).unwrap();
        let task = Task { name: "shade".into(), classes: vec!["dark".into(), "light".into()] };
        let labels = vec![Some(0), None, Some(1), None, Some(1)];
        let pictures = (0..5).map(picture).collect();
        Arc::new(MemoryDataset::new("five", pictures).unwrap().with_task(task, labels).unwrap())
    }

    #[test]
    fn pictures_and_labels_follow_the_indices() {
        let subset = Subset::new(five(), vec![4, 0, 4]).unwrap();
        assert_eq!(subset.len(), 3);
        assert_eq!((0..3).map(|i| subset.image(i).unwrap().pixels()[0]).collect::<Vec<_>>(), [4, 0, 4]);
        assert_eq!((0..4).map(|i| subset.label(0, i)).collect::<Vec<_>>(), [Some(1), Some(0), Some(1), None]);
        assert!(subset.image(3).unwrap_err().to_string().contains("not 3"));
    }

    #[test]
    fn pictures_without_a_label_are_left_out() {
        assert_eq!(Subset::labelled(five(), 0).unwrap().indices(), [0, 2, 4]);
        assert!(Subset::labelled(five(), 1).err().unwrap().to_string().contains("no picture"));
        assert!(Subset::new(five(), vec![5]).err().unwrap().to_string().contains("no picture 5"));
    }

    #[test]
    fn the_fingerprint_covers_the_choice() {
        let of = |indices| Subset::new(five(), indices).unwrap().fingerprint().unwrap();
        assert_eq!(of(vec![0, 1]), of(vec![0, 1]));
        assert_ne!(of(vec![0, 1]), of(vec![1, 0]));
        assert_ne!(of(vec![0, 1]), of(vec![0]));
    }
}
