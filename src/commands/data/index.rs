//! `equimod data index`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use equimod_data::dataset::{IndexConfig, Indexed, index_shards};

use crate::cli::Index;
use crate::outputs::console;

/// Indexes tar shards, and reports their contents.
pub fn run(arguments: &Index) -> anyhow::Result<ExitCode> {
    let config =
        IndexConfig { out: arguments.out.clone(), image: arguments.image.clone(), dotted_keys: arguments.dotted_keys };
    let indexed = index_shards(&arguments.location, &config, &mut |_| {})?;
    if arguments.json {
        console::json(&serde_json::to_value(&indexed)?)?;
    } else {
        console::result(&plain(&indexed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plain(indexed: &Indexed) -> String {
    let Indexed { samples, shards, labeled, without_image, replaced, .. } = indexed;
    let mut lines = vec![
        format!("{}: {samples} images in {shards} shards", indexed.index.display()),
        format!("images: {}; with a class: {labeled}", counted(&indexed.images)),
    ];
    if !indexed.columns.is_empty() {
        let columns = indexed.columns.iter().map(|(name, count)| format!("{name} ({count} values)"));
        lines.push(format!("fields of .json members, for --task: {}", columns.collect::<Vec<_>>().join(", ")));
    }
    if *without_image > 0 {
        lines.push(format!("{without_image} classes belong to no image of their shard"));
    }
    if *replaced > 0 {
        lines.push(format!("{replaced} samples have several images, of which the last is used; --image selects one"));
    }
    if !indexed.left_alone.is_empty() {
        lines.push(format!("ignored: {}", counted(&indexed.left_alone)));
    }
    lines.join("\n")
}

fn counted(endings: &BTreeMap<String, usize>) -> String {
    let counted = endings.iter().map(|(ending, count)| format!("{count} .{ending}"));
    counted.collect::<Vec<_>>().join(", ")
}
