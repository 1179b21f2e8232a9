//! The samples of one shard.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Largest size of an entry, in bytes.
pub(super) const MOST_ENTRY_BYTES: u64 = 1 << 28;

/// The samples of a shard, column by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shard {
    /// The file, from the index's folder.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    pub keys: Vec<String>,
    /// Offset of each image in the file, in bytes.
    pub offsets: Vec<u64>,
    pub lengths: Vec<u32>,
    pub labels: Vec<Option<u32>>,
}
