//! The models that weights came from, one after another.

use std::fs;
use std::path::Path;

use equimod_core::model::CONFIG_FILE;
use equimod_train::{Origin, RunInfo};
use serde_json::Value;

use crate::artifact::Training;
use crate::run_state::run_of;

/// The weights that the training of a model started from, if its run or its export recorded any.
pub fn origin(model: &Path) -> Option<Origin> {
    if let Some(run) = run_of(model) {
        return RunInfo::read(run).ok()?.from;
    }
    let folder = if model.is_file() { model.parent()? } else { model };
    let config: Value = serde_json::from_slice(&fs::read(folder.join(CONFIG_FILE)).ok()?).ok()?;
    let training: Training = serde_json::from_value(config.get("equimod")?.get("training")?.clone()).ok()?;
    let names = training.from.iter().chain(&training.ancestors).rev();
    names.fold(None, |from, name| Some(named(name, from)))
}

/// Weights that are named as in an export, `NAME (sha256 …)`.
fn named(text: &str, from: Option<Origin>) -> Origin {
    let (model, sha256) = text.split_once(" (sha256 ").unwrap_or((text, ""));
    Origin { model: model.into(), sha256: sha256.trim_end_matches(')').into(), from: from.map(Box::new) }
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
        training["ancestors"] = json!(["hf:lab/birds (sha256 1b)"]);
        let config = json!({ "equimod": { "training": training } });
        fs::write(scratch.path().join(CONFIG_FILE), config.to_string()).unwrap();
        let first = origin(scratch.path()).unwrap();
        assert_eq!((first.model.as_str(), first.sha256.as_str()), ("first", "0a"));
        let birds = first.from.unwrap();
        assert_eq!((birds.model.as_str(), birds.sha256.as_str(), &birds.from), ("hf:lab/birds", "1b", &None));
        assert_eq!(origin(&scratch.path().join("none")), None);
    }
}
