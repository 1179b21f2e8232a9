//! Shared code of the fuzz targets.

use std::path::{Path, PathBuf};

use equimod_data::dataset::likely_labels;
use equimod_data::{Dataset, Policy, view_rng};

/// Number of images of a data set to read.
const CHECKED: usize = 4;

/// Calls every method of a data set; whatever its content, the results must be values or errors.
pub fn exercise(dataset: &dyn Dataset) {
    let last = dataset.len().saturating_sub(1);
    for index in (0..dataset.len().min(CHECKED)).chain([last, dataset.len(), usize::MAX]) {
        let _ = (dataset.image(index), dataset.key(index));
        if let Ok(size) = dataset.size(index) {
            let _ = Policy::built_in("simclr-cifar10", 8).map(|p| p.views[0].sample(size, &mut view_rng(0, 0, 0, 0)));
        }
        for task in 0..dataset.tasks().len() + 1 {
            if let Some(label) = dataset.label(task, index) {
                assert!((label as usize) < dataset.tasks()[task].classes.len());
            }
        }
    }
    for column in dataset.columns() {
        let _ = [0, last, dataset.len(), usize::MAX].map(|index| dataset.text(column, index));
    }
    dataset.will_need(&[0, last, usize::MAX]);
    let _ = (dataset.sample_sizes(CHECKED), dataset.fingerprint(), likely_labels(dataset));
}

/// Folder for the input files of a target, reused by all calls in a process.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}
