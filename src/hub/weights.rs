//! Models of the Hub: weights, with their configuration and heads.

use std::path::PathBuf;

use equimod_core::model::{CONFIG_FILE, HEADS_FILE, MODEL_FILE};
use hf_hub::repository::RepoTypeModel;

use super::client::Hub;
use super::repository::{Kind, Repository, Snapshot};
use super::{FetchedModel, WeightFormats};
use crate::reference::ModelReference;

/// File extensions of PyTorch checkpoints.
const PYTORCH: [&str; 5] = [".bin", ".pth", ".pt", ".ckpt", ".pth.tar"];
const SAFETENSORS: &str = ".safetensors";

/// Downloads the weights that are not cached, and verifies each file once.
///
/// # Errors
///
/// If the model or a file of it is not available, ambiguous, or damaged.
pub fn fetch(hub: &Hub, reference: &ModelReference, weights: WeightFormats) -> anyhow::Result<FetchedModel> {
    let remote = hub.client.model(&reference.owner, &reference.name);
    let mut repository = Repository::new(hub, remote, reference.revision.as_deref(), reference.to_string());
    let snapshot = repository.resolve(None)?;
    let path =
        select(&snapshot, reference, weights).map_err(|why| RepoTypeModel::error(&reference.to_string(), why))?;
    let mut fetch = |path: &str| match snapshot.file(path) {
        Some(file) => repository.file(&snapshot.commit, file).map(Some),
        None => Ok(None),
    };
    let folder = path.rfind('/').map_or("", |slash| &path[..=slash]);
    if path.ends_with(MODEL_FILE) {
        for name in [CONFIG_FILE, HEADS_FILE] {
            fetch(&format!("{folder}{name}"))?;
        }
    }
    let local: Option<PathBuf> = fetch(path)?;
    let missing = || RepoTypeModel::error(&reference.to_string(), format!("it has no {path}"));
    Ok(FetchedModel { reference: reference.pinned(&snapshot.commit), path: local.ok_or_else(missing)? })
}

/// Selects the file of weights.
fn select<'a>(snapshot: &'a Snapshot, reference: &'a ModelReference, wanted: WeightFormats) -> Result<&'a str, String> {
    let named = |ends: &[&str]| -> Vec<&'a str> {
        let paths = snapshot.files.iter().map(|file| file.path.as_str());
        paths.filter(|path| ends.iter().any(|end| path.ends_with(end))).collect()
    };
    let id = reference.id();
    if let Some(file) = &reference.file {
        let pytorch = PYTORCH.iter().any(|end| file.ends_with(end));
        return match (snapshot.file(file), pytorch && wanted == WeightFormats::Safetensors) {
            (Some(_), false) => Ok(file),
            (Some(_), true) => Err(format!("{file} is a PyTorch file; run `equimod import {reference}`")),
            (None, _) => Err(format!("it has no {file}; it has {}", abbreviated(&named(&[""])))),
        };
    }
    if snapshot.file(MODEL_FILE).is_some() {
        return Ok(MODEL_FILE);
    }
    let (safetensors, pytorch) = (named(&[SAFETENSORS]), named(&PYTORCH));
    match (safetensors.as_slice(), pytorch.as_slice(), wanted) {
        ([one], ..) => Ok(one),
        ([], [one], WeightFormats::Any) => Ok(one),
        ([], [_, ..], WeightFormats::Safetensors) => Err(format!(
            "it has no {SAFETENSORS} file, only PyTorch files ({}); run `equimod import {reference}`",
            abbreviated(&pytorch)
        )),
        ([], [], _) => Err(format!("it has no weights, only {}", abbreviated(&named(&[""])))),
        _ => {
            let all = [safetensors, if wanted == WeightFormats::Any { pytorch } else { Vec::new() }].concat();
            Err(format!("it has several files of weights; choose one of {}, as in hf:{id}/FILE", abbreviated(&all)))
        }
    }
}

/// Up to six paths, separated by commas.
fn abbreviated(paths: &[&str]) -> String {
    match paths {
        [] => "nothing".into(),
        [first @ .., _] if first.len() >= 6 => format!("{}, …", first[..6].join(", ")),
        all => all.join(", "),
    }
}
