//! Pictures that do not decode: replaced by others, listed, and too many are an error.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
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
    pub fn new(name: &str, samples: usize, share: f64) -> Self {
        Self { name: name.into(), samples, share, known: Mutex::default() }
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
        let failed = known.len();
        if failed as f64 > self.share * self.samples as f64 {
            let text = format!(
                "{failed} of its {} pictures do not decode (the last: {}: {}), more than {} %; \
                 `equimod data verify` lists them all, data.skip_share allows more",
                self.samples,
                last.path,
                last.reason,
                self.share * 100.0
            );
            return Err(Error::data_set(&self.name, text));
        }
        Ok(())
    }
}
