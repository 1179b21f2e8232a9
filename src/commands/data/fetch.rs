//! `equimod data fetch`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::Fetch;
use crate::hub::{self, FetchedDataset, SplitSelection};
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::reference::Reference;

/// Downloads a data set from the Hub, into the cache or also into a folder.
pub fn run(arguments: &Fetch) -> anyhow::Result<ExitCode> {
    let reference = Reference::parse(&arguments.source)?;
    if let Some(folder) = &arguments.to {
        let taken = folder.exists() && fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_some());
        if taken {
            let folder = folder.display();
            return Err(Usage(format!("{folder} is not an empty folder; give one that is empty or new to --to")).into());
        }
    }
    let mut fetched = hub::fetch(&reference, SplitSelection::All)?;
    if let Some(folder) = &arguments.to {
        copy(&mut fetched, folder).with_context(|| format!("cannot write {}", folder.display()))?;
    }
    print(arguments, &fetched)?;
    Ok(ExitCode::SUCCESS)
}

/// Copies the files under names with their split, so that the folder is a source.
fn copy(fetched: &mut FetchedDataset, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for (split, files) in &mut fetched.splits {
        let count = files.len();
        for (number, file) in files.iter_mut().enumerate() {
            let name = format!("{split}-{number:05}-of-{count:05}.parquet");
            let (part, whole) = (folder.join(format!("{name}.part")), folder.join(name));
            let real = file.canonicalize()?;
            if fs::hard_link(&real, &part).is_err() {
                fs::copy(&real, &part)?;
            }
            fs::rename(&part, &whole)?;
            *file = whole;
        }
    }
    Ok(())
}

fn print(arguments: &Fetch, fetched: &FetchedDataset) -> anyhow::Result<()> {
    if arguments.json {
        let splits: Value = fetched.splits.iter().map(|(split, files)| (split.clone(), json!(files))).collect();
        let source = fetched.reference.to_string();
        return console::json(&json!({ "source": source, "bytes": fetched.bytes, "splits": splits }));
    }
    let counts = fetched.splits.iter().map(|(split, files)| format!("{split} {}", files.len()));
    let mut text = format!(
        "{}: {:.1} MB in files: {}",
        fetched.reference,
        fetched.bytes as f64 / 1e6,
        counts.collect::<Vec<_>>().join(", ")
    );
    let files: Vec<&PathBuf> = fetched.splits.values().flatten().collect();
    if let Some(folder) = files.first().and_then(|file| file.parent()) {
        text += &format!("\nin {}", folder.display());
    }
    let source = arguments.to.as_ref().map_or(fetched.reference.to_string(), |folder| folder.display().to_string());
    console::result(&format!("{text}\nuse it with: --data {source}"))
}
