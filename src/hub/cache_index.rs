//! Index of a repository in the cache: the commit of each revision, the files of each commit, and their verified
//! checksums. It makes cached repositories usable offline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use equimod_core::checkpoint::write_atomic;
use serde::{Deserialize, Serialize};

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Path in the repository.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal digits, once the content has been verified.
    pub checked: Option<String>,
}

/// Index of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheIndex {
    /// Commit of each revision when it was last resolved.
    pub revisions: BTreeMap<String, String>,
    /// The useful files of each commit.
    pub commits: BTreeMap<String, Vec<RemoteFile>>,
    #[serde(skip)]
    path: PathBuf,
}

const FILE: &str = "equimod.json";

impl CacheIndex {
    /// Reads the index in `folder`, the repository's folder in the cache; empty if there is no readable index.
    pub fn read(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Self { path, ..known.unwrap_or_default() }
    }

    /// Folder of the repository in the cache.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Writes the index to the cache.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.folder())?;
        Ok(write_atomic(&self.path, &serde_json::to_vec_pretty(self)?)?)
    }

    /// Records the files of a commit and returns them, with the checksums of those that were verified before.
    pub fn insert_commit(&mut self, revision: &str, commit: &str, mut files: Vec<RemoteFile>) -> Vec<RemoteFile> {
        for file in &mut files {
            let before = self.commits.get(commit).into_iter().flatten().find(|known| known.path == file.path);
            file.checked = before.filter(|known| known.size == file.size).and_then(|known| known.checked.clone());
        }
        self.commits.insert(commit.into(), files.clone());
        self.revisions.insert(revision.into(), commit.into());
        files
    }

    /// Records the verified checksum of a file.
    pub fn set_checksum(&mut self, commit: &str, path: &str, sum: String) {
        let files = self.commits.get_mut(commit).into_iter().flatten();
        if let Some(file) = files.into_iter().find(|file| file.path == path) {
            file.checked = Some(sum);
        }
    }
}
