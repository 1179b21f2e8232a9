//! Data sets from the Hugging Face Hub: found, pinned to a commit, fetched into the Hub's own cache, checked.
//!
//! Endpoint, token and cache are those of the Hub's tools: `HF_ENDPOINT`, `HF_TOKEN` (or the token file), `HF_HOME`,
//! `HF_HUB_CACHE`. With `HF_HUB_OFFLINE=1`, only what was fetched before is used; `HF_HUB_DOWNLOAD_TIMEOUT` says after how
//! many seconds of silence the Hub counts as unreachable.

#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod layout;
#[cfg(feature = "hub")]
mod patience;
#[cfg(feature = "hub")]
mod record;
pub mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;

use reference::Reference;

/// Files on this machine.
pub struct Fetched {
    /// The reference, pinned to the commit.
    pub reference: Reference,
    /// The files of each split.
    pub splits: BTreeMap<String, Vec<PathBuf>>,
    /// Bytes in all.
    pub bytes: u64,
}

/// Which splits are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What training takes: `train`, or the one that the reference names.
    Training,
    /// Also `validation` and `test`.
    Evaluation,
    /// Every split.
    All,
}

/// Fetches what is not here yet.
#[cfg(feature = "hub")]
pub fn fetch(reference: &Reference, wanted: Wanted) -> anyhow::Result<Fetched> {
    fetch::Hub::of_environment()?.fetch(reference, wanted)
}

/// Says that this build cannot.
#[cfg(not(feature = "hub"))]
pub fn fetch(reference: &Reference, _: Wanted) -> anyhow::Result<Fetched> {
    Err(crate::exit::Usage(format!("{reference} is on the Hub, but this build lacks the feature hub")).into())
}
