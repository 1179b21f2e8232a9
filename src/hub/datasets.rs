//! Data sets of the Hub, read from their parquet files.

use std::collections::BTreeMap;

use equimod_data::Error;

use super::client::Hub;
use super::layout::splits;
use super::repository::Repository;
use super::{FetchedDataset, SplitSelection};
use crate::reference::Reference;

/// Branch on which the Hub keeps parquet conversions of data sets in other formats.
const CONVERTED: &str = "refs/convert/parquet";

/// Downloads the selected splits that are not cached, and verifies each file once.
///
/// # Errors
///
/// If the data set or a file of it is not available, or a file is damaged.
pub fn fetch(hub: &Hub, reference: &Reference, wanted: SplitSelection) -> anyhow::Result<FetchedDataset> {
    let remote = hub.client.dataset(&reference.owner, &reference.name);
    let mut repository = Repository::new(hub, remote, reference.revision.as_deref(), reference.to_string());
    let snapshot = repository.resolve(reference.revision.is_none().then_some(CONVERTED))?;
    let failed = |reason: String| Error::DataSet { name: reference.to_string(), reason };
    let paths = snapshot.files.iter().map(|file| file.path.as_str());
    let selected = select(splits(reference, paths).map_err(failed)?, wanted);
    let pinned = reference.pinned(&snapshot.commit);
    let mut fetched = FetchedDataset { reference: pinned, splits: BTreeMap::new(), bytes: 0 };
    for (split, paths) in selected {
        for file in paths.into_iter().filter_map(|path| snapshot.file(path)) {
            let local = repository.file(&snapshot.commit, file)?;
            fetched.splits.entry(split.clone()).or_default().push(local);
            fetched.bytes += file.size;
        }
    }
    Ok(fetched)
}

/// Keeps the selected splits; if there is only one split, it is always kept.
fn select(mut splits: BTreeMap<String, Vec<&str>>, wanted: SplitSelection) -> BTreeMap<String, Vec<&str>> {
    if splits.len() == 1 || wanted == SplitSelection::All {
        return splits;
    }
    let evaluated = |split: &str| wanted == SplitSelection::Evaluation && ["validation", "test"].contains(&split);
    splits.retain(|split, _| split == "train" || evaluated(split));
    splits
}
