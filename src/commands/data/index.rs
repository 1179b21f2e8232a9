//! `equimod data index`.

use std::process::ExitCode;

use equimod_data::dataset::index_shards;
use serde_json::json;

use crate::cli::Index;
use crate::output;

/// Indexes tar shards.
pub fn run(arguments: &Index) -> anyhow::Result<ExitCode> {
    let mut shards = 0;
    let (index, samples) = index_shards(&arguments.location, arguments.out.as_deref(), &mut |done| shards = done)?;
    if arguments.json {
        output::json(&json!({ "index": index, "shards": shards, "samples": samples }))?;
    } else {
        output::result(&format!("{}: {samples} pictures in {shards} shards", index.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
