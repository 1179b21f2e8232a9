//! `equimod runs`.

mod summary;
mod table;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;
use walkdir::WalkDir;

use crate::cli::Runs;
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::run::baseline;
use equimod_train::run_dir::is_run;
use summary::Summary;
use table::Table;

/// A folder that holds a run which cannot be read, or that cannot be read itself.
#[derive(Debug, Serialize)]
struct Unreadable {
    run: String,
    reason: String,
}

/// Lists the runs in a folder and below.
///
/// # Errors
///
/// If the folder does not exist, or there is no such column.
pub fn run(arguments: &Runs) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        let text = format!("{} is no folder; give the folder in which the runs are", folder.display());
        return Err(Usage(text).into());
    }
    let (runs, unreadable) = find(folder);
    let mut table = Table::of(runs);
    table.sort(&arguments.sort, arguments.descending)?;
    if arguments.json {
        console::json(&json!({ "runs": table.runs, "unreadable": unreadable }))?;
    } else {
        console::result(&as_text(folder, &table, &unreadable))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Summaries of all runs, in the order of their paths, each followed by its baseline. Other folders of a run are not
/// searched.
fn find(folder: &Path) -> (Vec<Summary>, Vec<Unreadable>) {
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    let mut entries = WalkDir::new(folder).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let run = error.path().map_or_else(String::new, |path| name(folder, path));
                let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                unreadable.push(Unreadable { run, reason });
                continue;
            }
        };
        if !entry.file_type().is_dir() || !is_run(entry.path()) {
            continue;
        }
        entries.skip_current_dir();
        let baseline = baseline::of(entry.path());
        for path in std::iter::once(entry.path()).chain(baseline.as_deref()) {
            let run = name(folder, path);
            match Summary::read(path, &run) {
                Ok(summary) => runs.push(summary),
                Err(error) => unreadable.push(Unreadable { run, reason: error.to_string() }),
            }
        }
    }
    (runs, unreadable)
}

/// Path within the searched folder; the folder's own name for the folder itself.
fn name(folder: &Path, path: &Path) -> String {
    let within = path.strip_prefix(folder).ok().filter(|within| !within.as_os_str().is_empty());
    within.unwrap_or(path).display().to_string()
}

fn as_text(folder: &Path, table: &Table, unreadable: &[Unreadable]) -> String {
    let mut text = table.text();
    if table.runs.is_empty() {
        text += &format!("there is no run in {} that can be read\n", folder.display());
    }
    if !unreadable.is_empty() {
        text += "\nCannot be read:\n";
        unreadable.iter().for_each(|Unreadable { run, reason }| text += &format!("  {run}: {reason}\n"));
    }
    text
}
