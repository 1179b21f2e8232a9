//! Images that do not decode are replaced and listed; too many of them are an error.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::formats;
use crate::image::Image;
use crate::random::replacement_rng;
use crate::{Error, Result};

/// Default of the largest share of a data set that may fail to decode.
pub const SKIP_SHARE: f64 = 0.001;
/// Number of attempts to find a replacement for one image.
const ATTEMPTS: usize = 16;

/// An image that did not decode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Index of the image in the data set.
    pub index: usize,
    /// Path or row of the image.
    pub path: String,
    /// Reason of the failure.
    pub reason: String,
}

/// Count of the skipped images of a data set.
pub(super) struct SkippedList {
    name: String,
    samples: usize,
    share: f64,
    /// Indices of the images that failed to decode.
    failed: Mutex<BTreeSet<usize>>,
}

impl SkippedList {
    /// List for a data set of which the share `share` may fail. Images in unsupported formats count from the start.
    ///
    /// # Errors
    ///
    /// If there are too many of those.
    pub fn new(dataset: &dyn Dataset, share: f64) -> Result<Self> {
        let unread = dataset.unread();
        let failed = Mutex::new(unread.keys().copied().collect());
        let list = Self { name: dataset.name().into(), samples: dataset.len(), share, failed };
        if let Some((&index, format)) = unread.last_key_value() {
            list.check(unread.len(), &dataset.key(index), &formats::not_read(format))?;
        }
        Ok(list)
    }

    /// Image `sample`, or a replacement that (seed, epoch, sample) determines if it does not decode. Images that do not
    /// decode are added to `skipped`.
    pub fn image(
        &self,
        dataset: &dyn Dataset,
        seed: u64,
        epoch: u64,
        sample: usize,
        skipped: &mut Vec<Skipped>,
    ) -> Result<(usize, Image)> {
        let mut rng = replacement_rng(seed, epoch, sample as u64);
        let mut chosen = sample;
        for _ in 0..ATTEMPTS {
            match dataset.image(chosen) {
                Ok(image) => return Ok((chosen, image)),
                Err(Error::Image { key, reason }) => {
                    let failed = Skipped { index: chosen, path: key, reason };
                    self.count(&failed)?;
                    skipped.push(failed);
                }
                Err(other) => return Err(other),
            }
            chosen = rng.random_range(0..self.samples);
        }
        let text = format!("{ATTEMPTS} consecutive images do not decode; see `equimod data verify`");
        Err(Error::data_set(&self.name, text))
    }

    /// Counts a failed image.
    pub fn count(&self, last: &Skipped) -> Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(last.index);
        self.check(failed.len(), &last.path, &last.reason)
    }

    /// Checks the number of failed images against the limit.
    fn check(&self, failed: usize, last: &str, reason: &str) -> Result<()> {
        if failed as f64 <= self.share * self.samples as f64 {
            return Ok(());
        }
        let text = format!(
            "{failed} of its {} images do not decode (most recently {last}: {reason}), more than {} %; \
             `equimod data verify` with the same images lists all of them, and --set data.skip_share={} allows twice as many",
            self.samples,
            self.share * 100.0,
            (2e4 * failed as f64 / self.samples as f64).ceil() / 1e4
        );
        Err(Error::data_set(&self.name, text))
    }
}
