//! Memory-mapped files.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// A file that is read through the page cache without occupying the process's own memory.
///
/// The file must not change while it is mapped, since the content would be undefined. Files that are used like this are
/// written once and renamed into place.
pub(crate) struct Mapped(Option<Mmap>);

impl Mapped {
    /// Maps a file; an empty file becomes an empty slice.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if length == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is private to this value and only read, and files do not change while in use, as documented.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Self(Some(map)))
    }

    /// Asks the system to read a range ahead, if the system supports it.
    pub fn will_need(&self, part: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = self.0.as_ref().filter(|map| part.start <= part.end && part.end <= map.len()) {
            // Ignored advice only costs time.
            let _ = map.advise_range(memmap2::Advice::WillNeed, part.start, part.len());
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for content in [&b""[..], b"one", &[7; 10_000]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(&*Mapped::open(&path).unwrap(), content);
        }
        assert!(Mapped::open(&folder.path().join("none")).is_err());
    }
}
