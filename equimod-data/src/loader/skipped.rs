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

/// What was skipped so far.
pub(super) struct SkippedList {
    name: String,
    samples: usize,
    share: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Every picture that failed, once.
    known: BTreeSet<usize>,
    /// Those that nobody was told of yet.
    fresh: Vec<Skipped>,
}

impl SkippedList {
    pub fn new(name: &str, samples: usize, share: f64) -> Self {
        Self { name: name.into(), samples, share, state: Mutex::default() }
    }

    pub fn take(&self) -> Vec<Skipped> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).fresh)
    }

    /// Picture `sample`, or, where it does not decode, another that (seed, epoch, sample) decides.
    pub fn image(&self, dataset: &dyn Dataset, seed: u64, epoch: u64, sample: usize) -> Result<(usize, Image)> {
        let mut rng = replacement_rng(seed, epoch, sample as u64);
        let mut chosen = sample;
        for _ in 0..TRIES {
            match dataset.image(chosen) {
                Ok(image) => return Ok((chosen, image)),
                Err(Error::Picture { key, reason }) => self.note(chosen, key, reason)?,
                Err(other) => return Err(other),
            }
            chosen = rng.random_range(0..self.samples);
        }
        Err(Error::data_set(&self.name, format!("{TRIES} pictures in a row do not decode; see `equimod data verify`")))
    }

    fn note(&self, index: usize, path: String, reason: String) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.known.insert(index) {
            state.fresh.push(Skipped { index, path: path.clone(), reason: reason.clone() });
        }
        let failed = state.known.len();
        if failed as f64 > self.share * self.samples as f64 {
            let limit = self.share * 100.0;
            let text = format!(
                "{failed} of its {} pictures do not decode (the last: {path}: {reason}), more than {limit} %; \
                 `equimod data verify` lists them all, data.skip_share allows more",
                self.samples
            );
            return Err(Error::data_set(&self.name, text));
        }
        Ok(())
    }
}
