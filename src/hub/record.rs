//! What is known of a repository in the cache: which commit a revision was, which files a commit has, and which of them were
//! checked. With it, what was fetched once is found without a network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use equimod_core::checkpoint::write_atomic;
use serde::{Deserialize, Serialize};

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// In the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal digits, once the content was compared with it.
    pub checked: Option<String>,
}

/// What is known of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The commit of each revision when it was last asked for.
    pub revisions: BTreeMap<String, String>,
    /// The useful files of each commit.
    pub commits: BTreeMap<String, Vec<RemoteFile>>,
    #[serde(skip)]
    path: PathBuf,
}

const FILE: &str = "equimod.json";

impl Record {
    /// Of the repository whose part of the cache is `folder`; empty where there is none that can be read.
    pub fn read(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Self { path, ..known.unwrap_or_default() }
    }

    /// The part of the cache that it is about.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Writes it down.
    pub fn write(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.folder())?;
        Ok(write_atomic(&self.path, &serde_json::to_vec_pretty(self)?)?)
    }

    /// Takes over the files of a commit, and gives them back; what was checked before stays so.
    pub fn keep(&mut self, revision: &str, commit: &str, mut files: Vec<RemoteFile>) -> Vec<RemoteFile> {
        for file in &mut files {
            let before = self.commits.get(commit).into_iter().flatten().find(|known| known.path == file.path);
            file.checked = before.filter(|known| known.size == file.size).and_then(|known| known.checked.clone());
        }
        self.commits.insert(commit.into(), files.clone());
        self.revisions.insert(revision.into(), commit.into());
        files
    }

    /// Notes that a file's content was checked.
    pub fn check(&mut self, commit: &str, path: &str, sum: String) {
        let files = self.commits.get_mut(commit).into_iter().flatten();
        if let Some(file) = files.into_iter().find(|file| file.path == path) {
            file.checked = Some(sum);
        }
    }
}
