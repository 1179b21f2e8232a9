//! Data sets of the Hub, by their parquet files.

use std::collections::BTreeMap;

use equimod_data::Error;

use super::client::Hub;
use super::layout::splits;
use super::repository::Repository;
use super::{Fetched, Wanted};
use crate::reference::Reference;

/// The branch on which the Hub keeps what it made of data sets in other formats.
const CONVERTED: &str = "refs/convert/parquet";

/// Fetches what is wanted and not here yet; every file's content is checked once.
pub fn fetch(hub: &Hub, reference: &Reference, wanted: Wanted) -> anyhow::Result<Fetched> {
    let remote = hub.client.dataset(&reference.owner, &reference.name);
    let mut repository = Repository::new(hub, remote, reference.revision.as_deref(), reference.to_string());
    let located = repository.locate(reference.revision.is_none().then_some(CONVERTED))?;
    let failed = |reason: String| Error::DataSet { name: reference.to_string(), reason };
    let paths = located.files.iter().map(|file| file.path.as_str());
    let chosen = choose(splits(reference, paths).map_err(failed)?, wanted);
    let mut found = Fetched { reference: reference.pinned(&located.commit), splits: BTreeMap::new(), bytes: 0 };
    for (split, paths) in chosen {
        for file in paths.into_iter().filter_map(|path| located.file(path)) {
            let local = repository.file(&located.commit, file)?;
            found.splits.entry(split.clone()).or_default().push(local);
            found.bytes += file.size;
        }
    }
    Ok(found)
}

/// The splits that are wanted, of those there are.
fn choose(mut splits: BTreeMap<String, Vec<&str>>, wanted: Wanted) -> BTreeMap<String, Vec<&str>> {
    if splits.len() == 1 || wanted == Wanted::All {
        return splits;
    }
    let evaluated = |split: &str| wanted == Wanted::Evaluation && ["validation", "test"].contains(&split);
    splits.retain(|split, _| split == "train" || evaluated(split));
    splits
}
