//! Files of an export: their names, and what `config.json` says beside the description.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The files of an export, by their names in it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The card.
pub const CARD_FILE: &str = "README.md";
/// Numbers, here and in each folder of evaluations.
pub const RESULTS_FILE: &str = "results.json";
/// The same as a table.
pub const TABLE_FILE: &str = "results.md";
/// The key of what is said of weights of others.
pub const OTHERS: &str = "resnet";

/// How the weights were trained, as far as a run directory says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The pictures.
    pub data: String,
    /// Of the pictures.
    pub data_fingerprint: String,
    /// Passes over them.
    pub epochs: u64,
    /// Pictures of a step.
    pub batch: usize,
    /// What the recipe says of itself.
    pub about: String,
    /// The command, without the paths of the machine.
    pub command: String,
    /// Where tensors lived.
    pub device: String,
    /// Seconds of training.
    pub seconds: f64,
    /// The most memory, in bytes.
    pub peak_memory: u64,
    /// The weights that the run began with, if they were not drawn.
    #[serde(default)]
    pub from: Option<String>,
    /// Whether the weights are those at the end of it.
    #[serde(default = "yes")]
    pub finished: bool,
}

fn yes() -> bool {
    true
}
