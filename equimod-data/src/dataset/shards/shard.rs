//! Samples of one shard.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Largest size of an entry, in bytes.
pub(super) const MOST_ENTRY_BYTES: u64 = 1 << 28;

/// Samples of a shard, as columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shard {
    /// Path of the file, relative to the index's folder.
    pub file: PathBuf,
    /// Length of the file in bytes.
    pub bytes: u64,
    pub keys: Vec<String>,
    /// Offset of each image in the file, in bytes.
    pub offsets: Vec<u64>,
    pub lengths: Vec<u32>,
    pub labels: Vec<Option<u32>>,
}
