//! Files of an export and of evaluations: their names, and the training record in `config.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Not;

use anyhow::Context;
use equimod_data::Background;
use equimod_eval::ResultRow;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Files of an export, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// File name of the model card.
pub const CARD_FILE: &str = "README.md";
/// File name of results, in the run directory and in each folder of evaluations.
pub const RESULTS_FILE: &str = "results.json";
/// File name of the table of results.
pub const TABLE_FILE: &str = "results.md";
/// Key of the entries for imported weights in `config.json`.
pub const IMPORTED_KEY: &str = "resnet";

/// A text as a part of the name of a folder of evaluations.
pub fn dashed(text: &str) -> String {
    let dashed: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    dashed.trim_matches('-').to_owned()
}

/// Beginning of the setting with test images of another source than the data set.
pub const OTHER_TEST: &str = "test-";
/// Beginning of the setting with such validation images.
pub const OTHER_VALIDATION: &str = "validation-";

/// Whether a row was measured with validation images of another source than its data set, on which a classifier is
/// fitted as well.
pub fn has_other_validation(row: &ResultRow) -> bool {
    row.settings.split(", ").any(|setting| setting.starts_with(OTHER_VALIDATION))
}

/// The setting of a row that was measured on test images of another source than its data set.
pub fn other_test(row: &ResultRow) -> Option<&str> {
    row.settings.split(", ").find(|setting| setting.starts_with(OTHER_TEST))
}

/// Reads a JSON file of an export.
///
/// # Errors
///
/// If it is missing or damaged.
pub fn read<T: DeserializeOwned>(files: &Files, name: &str) -> anyhow::Result<T> {
    let bytes = files.get(name).with_context(|| format!("the export has no {name}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("cannot read {name}"))
}

/// Record of the training, from a run directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Data source.
    pub data: String,
    /// Fingerprint of the images.
    pub data_fingerprint: String,
    /// Color behind transparent pixels.
    #[serde(default)]
    pub background: Background,
    /// Whether images were rotated by their EXIF orientation.
    #[serde(default)]
    pub apply_orientation: bool,
    /// Data source of the probe; empty for that of training, and without a probe.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub probe: String,
    /// Number of epochs.
    pub epochs: u64,
    /// Epoch of the weights, if its metrics are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Images per step.
    pub batch: usize,
    /// Description of the recipe.
    pub about: String,
    /// Command line, without absolute paths.
    pub command: String,
    /// Compute device.
    pub device: String,
    /// Training time, in seconds.
    pub seconds: f64,
    /// Peak memory, in bytes.
    pub peak_memory: u64,
    /// Weights that training started from, if they were not random.
    #[serde(default)]
    pub from: Option<String>,
    /// Weights that those came from, and so on, as far as it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// What a reader is to know of the training, e.g. that it was too short.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub caveat: String,
    /// Whether the metrics go on after the weights.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub further_steps: bool,
    /// Whether the weights are those at the end of training.
    #[serde(default = "yes")]
    pub finished: bool,
}

/// Weights that a training started from, as exports name them: `NAME (sha256 …; images NAME, fingerprint …)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StartingWeights<'a> {
    /// Name of the model, which may have spaces.
    pub model: &'a str,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: &'a str,
    /// Name and fingerprint of the images that it was trained on, if they are known.
    pub images: Option<(&'a str, &'a str)>,
}

impl<'a> StartingWeights<'a> {
    /// Reads the text of an export.
    pub fn parse(text: &'a str) -> Self {
        let (model, rest) = text.split_once(" (sha256 ").unwrap_or((text, ""));
        let rest = rest.strip_suffix(')').unwrap_or(rest);
        let (sha256, images) = rest.split_once("; images ").unwrap_or((rest, ""));
        Self { model, sha256, images: images.rsplit_once(", fingerprint ") }
    }
}

impl fmt::Display for StartingWeights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} (sha256 {}", self.model, self.sha256)?;
        if let Some((images, fingerprint)) = self.images {
            write!(f, "; images {images}, fingerprint {fingerprint}")?;
        }
        f.write_str(")")
    }
}

fn yes() -> bool {
    true
}
