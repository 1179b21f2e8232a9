//! Pictures that do not decode: replaced by others, listed, and too many are an error.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::formats;
use crate::image::Image;
use crate::random::replacement_rng;
use crate::{Error, Result};

/// Share of a data set that may fail to decode, if nothing else is said.
pub const SKIP_SHARE: f64 = 0.001;
/// Replacements that are tried for one picture.
const TRIES: usize = 16;

/// A picture that did not decode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its index in the data set.
    pub index: usize,
    /// Its path or row.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Counts what was skipped so far.
pub(super) struct SkippedList {
    name: String,
    samples: usize,
    share: f64,
    /// Every picture that failed.
    known: Mutex<BTreeSet<usize>>,
}

impl SkippedList {
    /// For a data set of which `share` may fail. Images that are known not to decode count at once; too many of them
    /// are an error.
    pub fn new(dataset: &dyn Dataset, share: f64) -> Result<Self> {
        let unread = dataset.unread();
        let known = Mutex::new(unread.keys().copied().collect());
        let list = Self { name: dataset.name().into(), samples: dataset.len(), share, known };
        if let Some((&index, format)) = unread.last_key_value() {
            list.check(unread.len(), &dataset.key(index), &formats::not_read(format))?;
        }
        Ok(list)
    }

    /// Picture `sample`, or, where it does not decode, another that (seed, epoch, sample) decides; those that do not
    /// are added to `skipped`.
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
        for _ in 0..TRIES {
            match dataset.image(chosen) {
                Ok(image) => return Ok((chosen, image)),
                Err(Error::Picture { key, reason }) => {
                    let failed = Skipped { index: chosen, path: key, reason };
                    self.count(&failed)?;
                    skipped.push(failed);
                }
                Err(other) => return Err(other),
            }
            chosen = rng.random_range(0..self.samples);
        }
        Err(Error::data_set(&self.name, format!("{TRIES} pictures in a row do not decode; see `equimod data verify`")))
    }

    fn count(&self, last: &Skipped) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(last.index);
        self.check(known.len(), &last.path, &last.reason)
    }

    /// Refuses more than the share that may fail.
    fn check(&self, failed: usize, last: &str, reason: &str) -> Result<()> {
        if failed as f64 <= self.share * self.samples as f64 {
            return Ok(());
        }
        let text = format!(
            "{failed} of its {} images do not decode (the last: {last}: {reason}), more than {} %; \
             `equimod data verify` lists them all, data.skip_share allows more",
            self.samples,
            self.share * 100.0
        );
        Err(Error::data_set(&self.name, text))
    }
}
