//! What the targets share.

use std::path::{Path, PathBuf};

use equimod_data::{Dataset, Policy, view_rng};

/// Pictures of a data set that are looked at.
const LOOKED_AT: usize = 4;

/// Asks a data set everything that it can be asked; whatever it holds, answers are values or errors.
pub fn look(dataset: &dyn Dataset) {
    let last = dataset.len().saturating_sub(1);
    for index in (0..dataset.len().min(LOOKED_AT)).chain([last, dataset.len(), usize::MAX]) {
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
    dataset.will_need(&[0, last, usize::MAX]);
    let _ = (dataset.sample_sizes(LOOKED_AT), dataset.fingerprint());
}

/// A folder for what a target reads from files, the same for every call in a process.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file into it.
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
