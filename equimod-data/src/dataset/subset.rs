//! Selection of images of a data set.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Dataset, Entries, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Images of another data set at given indices, in this order, with their labels and texts.
pub struct Subset {
    whole: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// Selects the images of `whole` at `indices`.
    ///
    /// # Errors
    ///
    /// If there are no indices, or one is out of range.
    pub fn new(whole: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        if indices.is_empty() {
            return Err(Error::data_set(whole.name(), "no image of it was selected; select at least one"));
        }
        if let Some(beyond) = indices.iter().find(|&&index| index >= whole.len()) {
            let text = format!("it has {} images, but no image {beyond}", whole.len());
            return Err(Error::data_set(whole.name(), text));
        }
        Ok(Self { whole, indices })
    }

    /// Selects the images that have a label in the task with index `task`.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn labeled(whole: Arc<dyn Dataset>, task: usize) -> Result<Self> {
        let indices = (0..whole.len()).filter(|&index| whole.label(task, index).is_some()).collect();
        Self::new(whole, indices)
    }

    /// Indices of the selected images in the whole data set.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    fn at(&self, index: usize) -> Result<usize> {
        let missing = || Error::data_set(self.name(), format!("{} images were selected, not {index}", self.len()));
        self.indices.get(index).copied().ok_or_else(missing)
    }

    /// Hash of `whole`, a hash of all images, and the selected indices.
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

    /// Parts of the whole data set.
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

    /// Hash that covers the whole data set and the selected indices.
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
        let image = |shade: u8| Image::new(Size::square(1), vec![shade; 3]).unwrap();
        let task = Task { name: "shade".into(), classes: vec!["dark".into(), "light".into()] };
        let labels = vec![Some(0), None, Some(1), None, Some(1)];
        let images = (0..5).map(image).collect();
        Arc::new(MemoryDataset::new("five", images).unwrap().with_task(task, labels).unwrap())
    }

    #[test]
    fn images_and_labels_follow_the_indices() {
        let subset = Subset::new(five(), vec![4, 0, 4]).unwrap();
        assert_eq!(subset.len(), 3);
        assert_eq!((0..3).map(|i| subset.image(i).unwrap().pixels()[0]).collect::<Vec<_>>(), [4, 0, 4]);
        assert_eq!((0..4).map(|i| subset.label(0, i)).collect::<Vec<_>>(), [Some(1), Some(0), Some(1), None]);
        assert!(subset.image(3).unwrap_err().to_string().contains("not 3"));
    }

    #[test]
    fn unlabeled_images_are_left_out() {
        assert_eq!(Subset::labeled(five(), 0).unwrap().indices(), [0, 2, 4]);
        assert!(Subset::labeled(five(), 1).err().unwrap().to_string().contains("no image"));
        assert!(Subset::new(five(), vec![5]).err().unwrap().to_string().contains("no image 5"));
    }

    #[test]
    fn the_fingerprint_covers_the_selection() {
        let of = |indices| Subset::new(five(), indices).unwrap().fingerprint().unwrap();
        assert_eq!(of(vec![0, 1]), of(vec![0, 1]));
        assert_ne!(of(vec![0, 1]), of(vec![1, 0]));
        assert_ne!(of(vec![0, 1]), of(vec![0]));
    }
}
