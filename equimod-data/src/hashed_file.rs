//! Files that appear complete or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file that is written under a temporary name in the same folder, counted and hashed, and renamed into place at the
/// end. If it is dropped before that, it leaves nothing behind.
pub(crate) struct HashedFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    hash: Sha256,
    written: u64,
}

impl HashedFile {
    /// Starts a file that will be at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let file = NamedTempFile::new_in(folder(path)).map_err(|e| Error::write(path, e))?;
        Ok(Self { path: path.into(), file: BufWriter::new(file), hash: Sha256::new(), written: 0 })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| Error::write(&self.path, e))
    }

    /// Number of bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// SHA-256 of the bytes so far.
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Syncs the file, renames it into place, and syncs the folder.
    pub fn commit(self) -> Result<()> {
        let Self { path, file, .. } = self;
        let finish = || -> io::Result<()> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // Temporary files are private; the final file gets the usual permissions.
                fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
            }
            file.persist(&path).map_err(|e| e.error)?;
            if cfg!(unix) { fs::File::open(folder(&path))?.sync_all() } else { Ok(()) }
        };
        finish().map_err(|e| Error::write(&path, e))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
