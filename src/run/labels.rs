//! Images with labels on which a run is evaluated.

use std::path::{Path, PathBuf};

use equimod_eval::ResultRow;
use equimod_eval::evaluation::TOP_1;
use equimod_train::recorded;
use equimod_train::run_dir::RESOLVED;

use super::files::all_results;
use crate::reference::plain_name;

/// The images for a classifier on the features of `runs`: `given` ones or, where only others than the runs' own have had
/// labels, these; `None` stands for the runs' own images.
pub fn labeled_images(runs: &[PathBuf], given: Option<&str>) -> Option<String> {
    given.map(str::to_owned).or_else(|| runs.iter().find_map(|run| labeled_elsewhere(run)))
}

/// The images on which a run was evaluated with labels, if none of these are its own.
fn labeled_elsewhere(run: &Path) -> Option<String> {
    let own = recorded(&run.join(RESOLVED)).ok()?.data.source;
    let needs_labels = |row: &ResultRow| row.metric == TOP_1 || row.is_few_shot();
    let rows: Vec<ResultRow> = all_results(run).ok()?.into_iter().filter(needs_labels).collect();
    let is_own = |row: &ResultRow| plain_name(&row.data) == plain_name(&own);
    rows.first().filter(|_| !rows.iter().any(is_own)).map(|row| row.data.clone())
}
