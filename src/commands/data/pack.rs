//! `equimod data pack`.

use std::process::ExitCode;

use equimod_data::dataset::{PackConfig, Storage, pack};
use equimod_data::source::with_labels;
use serde_json::json;

use crate::cli::{Pack, PackStorage};
use crate::outputs::console::{self, Count};

/// Writes a packed file.
pub fn run(arguments: &Pack) -> anyhow::Result<ExitCode> {
    let dataset = with_labels(arguments.source.open()?, &arguments.task)?;
    let storage = match arguments.storage {
        PackStorage::Raw => Storage::Raw,
        PackStorage::Png => Storage::Png,
        PackStorage::Jpeg => Storage::Jpeg { quality: arguments.quality },
    };
    let resize = arguments.resize.map(|side| side as usize);
    let config = PackConfig { resize, storage, threads: rayon::current_num_threads() };
    let progress = Count::new("images", dataset.len());
    let summary = pack(dataset.as_ref(), &arguments.out, &config, &mut |done| progress.set(done as u64))?;
    progress.finish();
    if arguments.json {
        console::json(&json!({ "file": arguments.out, "summary": summary }))?;
        return Ok(ExitCode::SUCCESS);
    }
    summary.left_out.iter().for_each(|(key, reason)| console::note(&format!("left out: {key}: {reason}")));
    console::result(&format!(
        "{}: {} images, {:.1} MB, {} left out, fingerprint {}",
        arguments.out.display(),
        summary.images,
        summary.bytes as f64 / 1e6,
        summary.left_out.len(),
        summary.fingerprint
    ))?;
    Ok(ExitCode::SUCCESS)
}
