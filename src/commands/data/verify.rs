//! `equimod data verify`.

use std::process::ExitCode;

use equimod_core::checkpoint::{sha256, write_atomic};
use equimod_data::{Error, PackedDataset};
use rayon::prelude::*;
use serde_json::json;
use std::path::Path;

use crate::cli::Verify;
use crate::{exit, output};

/// Decodes every picture and lists what fails.
pub fn run(arguments: &Verify) -> anyhow::Result<ExitCode> {
    let path = Path::new(&arguments.source.source);
    if PackedDataset::is_at(path) {
        PackedDataset::open(path)?.verify()?;
    }
    let dataset = arguments.source.open()?;
    let look = |index: usize| match dataset.image(index) {
        Ok(image) => Ok(sha256(&[image.size().to_string().as_bytes(), image.pixels()].concat())),
        Err(Error::Picture { key, reason }) => Err((index, key, reason)),
        Err(other) => Err((index, dataset.key(index), other.to_string())),
    };
    let looked: Vec<_> = (0..dataset.len()).into_par_iter().map(look).collect();
    // Of the pixels of every picture, in order: the same wherever the pictures lie and however they are stored.
    let content = sha256(looked.iter().filter_map(|found| found.as_ref().ok()).cloned().collect::<String>().as_bytes());
    let failed: Vec<(usize, String, String)> = looked.into_iter().filter_map(Result::err).collect();
    let fingerprint = dataset.fingerprint()?;
    let list: Vec<_> =
        failed.iter().map(|(index, path, reason)| json!({ "index": index, "path": path, "reason": reason })).collect();
    let found = json!({
        "name": dataset.name(), "pictures": dataset.len(), "decoded": dataset.len() - failed.len(),
        "failed": list, "fingerprint": fingerprint, "content": content,
    });
    if let Some(out) = &arguments.out {
        write_atomic(out, &serde_json::to_vec_pretty(&found)?)?;
    }
    if arguments.json {
        output::json(&found)?;
    } else {
        let mut text: String = failed.iter().map(|(_, path, reason)| format!("{path}: {reason}\n")).collect();
        let decoded = dataset.len() - failed.len();
        text += &format!(
            "{}: {decoded} of {} pictures decode, fingerprint {fingerprint}, content {content}\n",
            dataset.name(),
            dataset.len()
        );
        output::result(&text)?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::DATA) })
}
