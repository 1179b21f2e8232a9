//! Listing of a run's images in its directory, to report which images changed if a resume is rejected.

use std::path::Path;

use equimod_data::dataset::Listing;

use crate::run_dir::{RESOLVED, RunDirectory};
use crate::trainer::Trainer;
use crate::{Error, Result};

/// Name of the listing in a run directory.
const FILE: &str = "images.jsonl.gz";
/// Number of characters of a fingerprint in messages.
const SHOWN: usize = 16;

impl Trainer {
    /// Writes the listing of the images when a run starts, or if an earlier version of the program wrote none.
    pub(crate) fn keep_listing(&self, run: &RunDirectory) -> Result<()> {
        let path = run.path().join(FILE);
        if self.step() > 0 && path.is_file() {
            return Ok(());
        }
        let entries = self.loader().dataset().entries()?;
        let bytes = Listing::write(entries).map_err(|e| Error::io("write", &path, e))?;
        run.write(FILE, &bytes)
    }

    /// Error of a resume whose images have another fingerprint than `before`. It names the changes, as far as the
    /// listing in the run directory allows.
    pub(crate) fn other_images(&self, run: &RunDirectory, checkpoint: &Path, before: &str) -> Error {
        let short = |fingerprint: &str| fingerprint.chars().take(SHOWN).collect::<String>();
        let reason = match self.changes(run) {
            Ok(changes) if changes.is_empty() => "\n  all are there with the same lengths, but in another order".into(),
            Ok(changes) => format!("\n{changes}"),
            Err(reason) => format!(
                "\n  fingerprint {} before, {} now; which ones changed cannot be said: {reason}",
                short(before),
                short(self.data_fingerprint())
            ),
        };
        Error::DataSet(format!(
            "the images are not those that the run was started with:{reason}\nrestore them, or begin a new run with \
             --recipe {} --from {}",
            run.path().join(RESOLVED).display(),
            checkpoint.display()
        ))
    }

    fn changes(&self, run: &RunDirectory) -> std::result::Result<equimod_data::dataset::Changes, String> {
        let path = run.path().join(FILE);
        let in_words = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{} is missing", path.display()),
            _ => format!("{} cannot be read ({error})", path.display()),
        };
        let before = std::fs::read(&path).and_then(|bytes| Listing::read(&bytes)).map_err(in_words)?;
        let now = self.loader().dataset().entries().map_err(|error| error.to_string())?;
        Ok(before.changes(&now.collect()))
    }
}
