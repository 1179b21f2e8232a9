//! Configuration and split of each parquet file of a repository, inferred from its path as the Hub does.

use std::collections::{BTreeMap, BTreeSet};

use equimod_data::source::split_of;

use crate::reference::Reference;

/// Configuration (if the file is in a configuration's folder) and split of a parquet file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileLocation {
    configuration: Option<String>,
    split: String,
}

/// Parses `data/train-0.parquet`, `CONFIGURATION/train-0.parquet`, `CONFIGURATION/SPLIT/0000.parquet` or
/// `SPLIT/0.parquet`.
fn location(path: &str) -> FileLocation {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let mut folders: Vec<&str> = folders.split('/').filter(|folder| !folder.is_empty()).collect();
    let stem = file.strip_suffix(".parquet").unwrap_or(file);
    let last = folders.last().copied();
    let split = match (split_of(stem), last.and_then(split_of)) {
        (Some(split), _) => split.to_owned(),
        (None, Some(split)) => {
            folders.pop();
            split.to_owned()
        }
        // A subfolder of a configuration is a split with the subfolder's name: `CONFIGURATION/unlabeled/0000.parquet`.
        (None, None) if folders.len() >= 2 => folders.pop().unwrap_or_default().to_owned(),
        // `unlabeled-00000-of-00001` names its split; a file without such a number is training data.
        (None, None) => stem.split_once("-0").map_or("train", |(name, _)| name).to_owned(),
    };
    let configuration = folders.first().filter(|folder| **folder != "data").map(|folder| (*folder).to_owned());
    FileLocation { configuration, split }
}

/// Paths of each split of the configuration that `reference` names, or of the default or only configuration.
///
/// # Errors
///
/// If there are no parquet files, or the configuration or split does not exist or is ambiguous.
pub fn splits<'a>(
    reference: &Reference,
    paths: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, Vec<&'a str>>, String> {
    let mut files: Vec<(FileLocation, &str)> = paths.map(|path| (location(path), path)).collect();
    files.sort();
    let configurations: BTreeSet<Option<&str>> = files.iter().map(|(p, _)| p.configuration.as_deref()).collect();
    let named = || configurations.iter().flatten().copied().collect::<Vec<_>>().join(", ");
    let chosen = match (reference.configuration.as_deref(), configurations.len()) {
        (_, 0) => return Err("it holds no parquet files".into()),
        (Some(wanted), _) if configurations.contains(&Some(wanted)) => Some(wanted),
        (Some(wanted), _) if named().is_empty() => {
            return Err(format!("it has no configurations, and so none called {wanted}"));
        }
        (Some(wanted), _) => {
            return Err(format!("it has no configuration called {wanted}; it has {}", named()));
        }
        (None, 1) => configurations.first().copied().flatten(),
        // Files outside configuration folders, or the configuration `default`.
        (None, _) if configurations.contains(&None) => None,
        (None, _) if configurations.contains(&Some("default")) => Some("default"),
        (None, _) => {
            let id = reference.id();
            return Err(format!("it has several configurations; choose one of {}, as in hf:{id}/NAME", named()));
        }
    };
    let mut splits: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (location, path) in &files {
        if location.configuration.as_deref() == chosen {
            splits.entry(location.split.clone()).or_default().push(path);
        }
    }
    match &reference.split {
        None => Ok(splits),
        Some(wanted) => match splits.remove(wanted) {
            Some(paths) => Ok([(wanted.clone(), paths)].into()),
            None => Err(format!(
                "it has no split called {wanted}; it has {}",
                splits.keys().cloned().collect::<Vec<_>>().join(", ")
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(reference: &str, paths: &[&str]) -> Result<Vec<String>, String> {
        let splits = splits(&Reference::parse(reference).unwrap(), paths.iter().copied())?;
        Ok(splits.iter().map(|(split, paths)| format!("{split}: {}", paths.join(" "))).collect())
    }

    #[test]
    fn files_are_found_in_every_usual_layout() {
        let cifar = ["plain_text/test-00000-of-00001.parquet", "plain_text/train-00000-of-00001.parquet"];
        let both = [format!("test: {}", cifar[0]), format!("train: {}", cifar[1])];
        assert_eq!(layout("hf:uoft-cs/cifar10", &cifar).unwrap(), both);
        assert_eq!(layout("hf:uoft-cs/cifar10/plain_text:train", &cifar).unwrap(), both[1..]);
        let data = ["data/train-1-of-2.parquet", "data/train-0-of-2.parquet", "data/unlabeled-00000-of-00001.parquet"];
        assert_eq!(
            layout("hf:a/b", &data).unwrap(),
            [format!("train: {} {}", data[1], data[0]), format!("unlabeled: {}", data[2])]
        );
        let converted = ["default/validation/0000.parquet", "default/train/0000.parquet", "other/train/0000.parquet"];
        assert_eq!(
            layout("hf:a/b", &converted).unwrap(),
            [format!("train: {}", converted[1]), format!("validation: {}", converted[0])]
        );
        assert_eq!(layout("hf:a/b/other", &converted).unwrap(), [format!("train: {}", converted[2])]);
        assert_eq!(layout("hf:a/b", &["pictures.parquet"]).unwrap(), ["train: pictures.parquet"]);
    }

    #[test]
    fn what_is_not_there_is_reported_with_what_is() {
        let paths = ["one/train-0.parquet", "two/train-0.parquet"];
        assert!(layout("hf:a/b", &paths).unwrap_err().contains("one, two"));
        assert!(layout("hf:a/b/three", &paths).unwrap_err().contains("one, two"));
        assert!(layout("hf:a/b/one:test", &paths).unwrap_err().contains("it has train"));
        assert!(layout("hf:a/b", &[]).unwrap_err().contains("no parquet files"));
    }
}
