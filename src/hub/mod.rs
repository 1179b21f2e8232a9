//! The Hugging Face Hub: data sets and models found, pinned to a commit, fetched into the Hub's own cache, checked.
//!
//! Endpoint, token and cache are those of the Hub's tools: `HF_ENDPOINT`, `HF_TOKEN` (or the token file), `HF_HOME`,
//! `HF_HUB_CACHE`. With `HF_HUB_OFFLINE=1`, only what was fetched before is used; `HF_HUB_DOWNLOAD_TIMEOUT` says after how
//! many seconds of silence the Hub counts as unreachable.

#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod datasets;
#[cfg(feature = "hub")]
mod layout;
#[cfg(feature = "hub")]
mod models;
#[cfg(feature = "hub")]
mod patience;
#[cfg(feature = "hub")]
mod publish;
#[cfg(feature = "hub")]
mod record;
#[cfg(feature = "hub")]
mod repository;
#[cfg(feature = "hub")]
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::artifact::Files;
use crate::reference::{ModelReference, Reference};
use crate::scan;

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

/// Weights on this machine.
pub struct FetchedModel {
    /// The reference, pinned to the commit.
    pub reference: ModelReference,
    /// The file of weights; what describes them lies beside it.
    pub path: PathBuf,
}

/// Which files of weights will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those that load as they are.
    Safetensors,
    /// Also those of PyTorch.
    Any,
}

/// What is published.
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "a build without the Hub only says so"))]
pub struct Publication<'a> {
    /// Whose repository.
    pub owner: &'a str,
    /// Its name.
    pub name: &'a str,
    /// An export's.
    pub files: &'a Files,
    /// Whether the repository is private, if it is made.
    pub private: bool,
    /// Whether a pull request is made in place of a commit.
    pub create_pr: bool,
    /// The branch, if it is not `main`.
    pub revision: Option<&'a str>,
    /// Whether a card that a person edited is overwritten.
    pub force_card: bool,
    /// The commit's.
    pub message: &'a str,
}

/// What was published.
pub struct Published {
    /// Forty hexadecimal digits.
    pub commit: String,
    /// Where people look at it.
    pub url: String,
    /// Where the pull request is, if one was made.
    pub pull_request: Option<String>,
    /// The MODEL, pinned.
    pub reference: String,
    /// The names of all files.
    pub files: Vec<String>,
}

/// Refuses what must not become public.
pub fn check(publication: &Publication) -> anyhow::Result<()> {
    #[cfg(feature = "hub")]
    {
        let token = token::Token::of_environment();
        scan::check(publication.files, |bytes| token.as_ref().is_some_and(|token| token.is_in(bytes)))
    }
    #[cfg(not(feature = "hub"))]
    scan::check(publication.files, |_| false)
}

/// Puts it on the Hub.
#[cfg(feature = "hub")]
pub fn publish(publication: &Publication) -> anyhow::Result<Published> {
    publish::publish(publication)
}

/// Says that this build cannot.
#[cfg(not(feature = "hub"))]
pub fn publish(publication: &Publication) -> anyhow::Result<Published> {
    Err(without(&format!("{}/{}", publication.owner, publication.name)).into())
}

/// Fetches what is not here yet of a data set.
#[cfg(feature = "hub")]
pub fn fetch(reference: &Reference, wanted: Wanted) -> anyhow::Result<Fetched> {
    datasets::fetch(&client::Hub::of_environment()?, reference, wanted)
}

/// Fetches what is not here yet of a model.
#[cfg(feature = "hub")]
pub fn fetch_model(reference: &ModelReference, weights: Weights) -> anyhow::Result<FetchedModel> {
    models::fetch(&client::Hub::of_environment()?, reference, weights)
}

/// Says that this build cannot.
#[cfg(not(feature = "hub"))]
pub fn fetch(reference: &Reference, _: Wanted) -> anyhow::Result<Fetched> {
    Err(without(reference).into())
}

/// Says that this build cannot.
#[cfg(not(feature = "hub"))]
pub fn fetch_model(reference: &ModelReference, _: Weights) -> anyhow::Result<FetchedModel> {
    Err(without(reference).into())
}

#[cfg(not(feature = "hub"))]
fn without(reference: &dyn std::fmt::Display) -> crate::exit::Usage {
    let text =
        "is on the Hub, but this build lacks the feature hub; build with it: cargo install --path . --features hub";
    crate::exit::Usage(format!("{reference} {text}"))
}
