//! Hugging Face Hub: data sets and models are resolved to a commit, downloaded to the Hub's cache and verified.
//!
//! Endpoint, token and cache follow the Hub's own tools: `HF_ENDPOINT`, `HF_TOKEN` (or the token file), `HF_HOME` and
//! `HF_HUB_CACHE`. With `HF_HUB_OFFLINE=1`, only cached files are used. `HF_HUB_DOWNLOAD_TIMEOUT` is the number of
//! seconds without an answer after which the Hub counts as unreachable.

#[cfg(feature = "hub")]
mod cache_index;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod datasets;
#[cfg(feature = "hub")]
mod layout;
#[cfg(feature = "hub")]
mod publish;
#[cfg(feature = "hub")]
mod repository;
#[cfg(feature = "hub")]
mod timeout;
#[cfg(feature = "hub")]
mod token;
#[cfg(feature = "hub")]
mod weights;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::artifact::Files;
use crate::export::scan;
use crate::reference::{ModelReference, Reference};

/// A data set in the local cache.
pub struct FetchedDataset {
    /// Reference, pinned to a commit.
    pub reference: Reference,
    /// Local files of each split.
    pub splits: BTreeMap<String, Vec<PathBuf>>,
    /// Total size in bytes.
    pub bytes: u64,
}

/// The splits to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitSelection {
    /// Splits for training: `train`, or the one that the reference names.
    Training,
    /// Splits for training and evaluation: `train`, `validation` and `test`.
    Evaluation,
    /// Every split.
    All,
}

/// Model weights in the local cache.
pub struct FetchedModel {
    /// Reference, pinned to a commit.
    pub reference: ModelReference,
    /// File of weights; its `config.json` and heads, if any, are in the same folder.
    pub path: PathBuf,
}

/// Accepted formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormats {
    /// `.safetensors` only.
    Safetensors,
    /// `.safetensors` and PyTorch files.
    Any,
}

/// A request to publish an export.
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "a build without the Hub only reports an error"))]
pub struct Publication<'a> {
    /// Owner of the repository.
    pub owner: &'a str,
    /// Name of the repository.
    pub name: &'a str,
    /// Files of the export.
    pub files: &'a Files,
    /// Whether a newly created repository is private.
    pub private: bool,
    /// Whether to open a pull request instead of committing directly.
    pub create_pr: bool,
    /// Target branch; `None` for `main`.
    pub revision: Option<&'a str>,
    /// Whether to overwrite a model card that was edited by hand.
    pub force_card: bool,
    /// Commit message.
    pub message: &'a str,
}

/// Result of publishing.
pub struct Published {
    /// SHA of the commit, forty hexadecimal digits.
    pub commit: String,
    /// Web page of the files.
    pub url: String,
    /// Web page of the pull request, if one was opened.
    pub pull_request: Option<String>,
    /// MODEL reference, pinned to the commit.
    pub reference: String,
    /// Names of all published files.
    pub files: Vec<String>,
}

/// Refuses to publish secrets and absolute paths.
///
/// # Errors
///
/// If a file contains one; the message lists all places.
pub fn check(publication: &Publication) -> anyhow::Result<()> {
    #[cfg(feature = "hub")]
    {
        let token = token::Token::of_environment();
        scan::check(publication.files, |bytes| token.as_ref().is_some_and(|token| token.occurs_in(bytes)))
    }
    #[cfg(not(feature = "hub"))]
    scan::check(publication.files, |_| false)
}

/// Publishes an export on the Hub.
///
/// # Errors
///
/// If there is no valid token, or the Hub refuses the commit or cannot be reached.
#[cfg(feature = "hub")]
pub fn publish(publication: &Publication) -> anyhow::Result<Published> {
    publish::publish(publication)
}

/// Reports that this build lacks the Hub.
#[cfg(not(feature = "hub"))]
pub fn publish(publication: &Publication) -> anyhow::Result<Published> {
    Err(without(&format!("{}/{}", publication.owner, publication.name)).into())
}

/// Downloads the files of a data set that are not cached.
///
/// # Errors
///
/// If the data set is not available, or a file is damaged.
#[cfg(feature = "hub")]
pub fn fetch(reference: &Reference, wanted: SplitSelection) -> anyhow::Result<FetchedDataset> {
    datasets::fetch(&client::Hub::of_environment()?, reference, wanted)
}

/// Downloads the files of a model that are not cached.
///
/// # Errors
///
/// If the model is not available, or a file is damaged.
#[cfg(feature = "hub")]
pub fn fetch_model(reference: &ModelReference, weights: WeightFormats) -> anyhow::Result<FetchedModel> {
    weights::fetch(&client::Hub::of_environment()?, reference, weights)
}

/// Reports that this build lacks the Hub.
#[cfg(not(feature = "hub"))]
pub fn fetch(reference: &Reference, _: SplitSelection) -> anyhow::Result<FetchedDataset> {
    Err(without(reference).into())
}

/// Reports that this build lacks the Hub.
#[cfg(not(feature = "hub"))]
pub fn fetch_model(reference: &ModelReference, _: WeightFormats) -> anyhow::Result<FetchedModel> {
    Err(without(reference).into())
}

#[cfg(not(feature = "hub"))]
fn without(reference: &dyn std::fmt::Display) -> crate::process::exit::Usage {
    let text =
        "is on the Hub, but this build lacks the feature hub; rebuild with: cargo install --path . --features hub";
    crate::process::exit::Usage(format!("{reference} {text}"))
}
