//! The models that weights came from, one after another.

use std::fs;
use std::path::Path;

use equimod_core::model::CONFIG_FILE;
use equimod_train::run_dir::{RESOLVED, TrainingImages};
use equimod_train::{Origin, RunInfo, recorded};
use serde_json::Value;

use crate::artifact::{StartingWeights, Training};
use crate::run_state::run_of;

/// The weights that the training of a model started from, if its run or its export recorded any.
pub fn origin(model: &Path) -> Option<Origin> {
    if let Some(run) = run_of(model) {
        return RunInfo::read(run).ok()?.from;
    }
    let training = exported(model)?;
    let names = training.from.iter().chain(&training.ancestors).rev();
    names.fold(None, |from, name| Some(named(name, from)))
}

/// The images that a model was trained on, if its run or its export recorded them.
pub fn images(model: &Path) -> Option<TrainingImages> {
    if let Some(run) = run_of(model) {
        let source = recorded(&run.join(RESOLVED)).ok()?.data.source;
        return Some(TrainingImages { source, fingerprint: RunInfo::read(run).ok()?.data_fingerprint });
    }
    let Training { data, data_fingerprint, .. } = exported(model)?;
    Some(TrainingImages { source: data, fingerprint: data_fingerprint })
}

/// The record of training in an export.
fn exported(model: &Path) -> Option<Training> {
    let folder = if model.is_file() { model.parent()? } else { model };
    let config: Value = serde_json::from_slice(&fs::read(folder.join(CONFIG_FILE)).ok()?).ok()?;
    serde_json::from_value(config.get("equimod")?.get("training")?.clone()).ok()
}

/// Weights that are named as in an export.
fn named(text: &str, from: Option<Origin>) -> Origin {
    let StartingWeights { model, sha256, images } = StartingWeights::parse(text);
    let images =
        images.map(|(source, fingerprint)| TrainingImages { source: source.into(), fingerprint: fingerprint.into() });
    Origin { model: model.into(), sha256: sha256.into(), images, from: from.map(Box::new) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_export_names_the_whole_chain() {
        let scratch = tempfile::tempdir().unwrap();
        let mut training = serde_json::to_value(Training::default()).unwrap();
        training["from"] = "first (sha256 0a)".into();
        training["ancestors"] = json!(["hf:lab/birds (sha256 1b; images my, photos, fingerprint 2c)"]);
        let config = json!({ "equimod": { "training": training } });
        fs::write(scratch.path().join(CONFIG_FILE), config.to_string()).unwrap();
        let first = origin(scratch.path()).unwrap();
        assert_eq!((first.model.as_str(), first.sha256.as_str()), ("first", "0a"));
        let birds = first.from.unwrap();
        assert_eq!((birds.model.as_str(), birds.sha256.as_str(), &birds.from), ("hf:lab/birds", "1b", &None));
        let images = birds.images.unwrap();
        assert_eq!((images.source.as_str(), images.fingerprint.as_str()), ("my, photos", "2c"));
        assert_eq!(origin(&scratch.path().join("none")), None);
    }
}
