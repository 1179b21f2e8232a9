//! Models of the Hub: weights, and what lies beside them.

use std::path::PathBuf;

use equimod_core::model::{CONFIG_FILE, HEADS_FILE, MODEL_FILE};
use hf_hub::repository::RepoTypeModel;

use super::client::Hub;
use super::repository::{Kind, Located, Repository};
use super::{FetchedModel, Weights};
use crate::reference::ModelReference;

/// How files of PyTorch end.
const PYTORCH: [&str; 5] = [".bin", ".pth", ".pt", ".ckpt", ".pth.tar"];
const SAFETENSORS: &str = ".safetensors";

/// Fetches what is not here yet; every file's content is checked once.
pub fn fetch(hub: &Hub, reference: &ModelReference, weights: Weights) -> anyhow::Result<FetchedModel> {
    let remote = hub.client.model(&reference.owner, &reference.name);
    let mut repository = Repository::new(hub, remote, reference.revision.as_deref(), reference.to_string());
    let located = repository.locate(None)?;
    let path = choose(&located, reference, weights).map_err(|why| RepoTypeModel::error(&reference.to_string(), why))?;
    let mut fetch = |path: &str| match located.file(path) {
        Some(file) => repository.file(&located.commit, file).map(Some),
        None => Ok(None),
    };
    let folder = path.rfind('/').map_or("", |slash| &path[..=slash]);
    if path.ends_with(MODEL_FILE) {
        for name in [CONFIG_FILE, HEADS_FILE] {
            fetch(&format!("{folder}{name}"))?;
        }
    }
    let local: Option<PathBuf> = fetch(path)?;
    let missing = || RepoTypeModel::error(&reference.to_string(), format!("it holds no {path}"));
    Ok(FetchedModel { reference: reference.pinned(&located.commit), path: local.ok_or_else(missing)? })
}

/// The file of weights that is meant.
fn choose<'a>(located: &'a Located, reference: &'a ModelReference, wanted: Weights) -> Result<&'a str, String> {
    let named = |ends: &[&str]| -> Vec<&'a str> {
        let paths = located.files.iter().map(|file| file.path.as_str());
        paths.filter(|path| ends.iter().any(|end| path.ends_with(end))).collect()
    };
    let id = reference.id();
    if let Some(file) = &reference.file {
        let pytorch = PYTORCH.iter().any(|end| file.ends_with(end));
        return match (located.file(file), pytorch && wanted == Weights::Safetensors) {
            (Some(_), false) => Ok(file),
            (Some(_), true) => Err(format!("{file} is a file of PyTorch; run `equimod import {reference}`")),
            (None, _) => Err(format!("it holds no {file}; it holds {}", some(&named(&[""])))),
        };
    }
    if located.file(MODEL_FILE).is_some() {
        return Ok(MODEL_FILE);
    }
    let (safetensors, pytorch) = (named(&[SAFETENSORS]), named(&PYTORCH));
    match (safetensors.as_slice(), pytorch.as_slice(), wanted) {
        ([one], ..) => Ok(one),
        ([], [one], Weights::Any) => Ok(one),
        ([], [_, ..], Weights::Safetensors) => Err(format!(
            "it holds no {SAFETENSORS} file, but files of PyTorch ({}); run `equimod import {reference}`",
            some(&pytorch)
        )),
        ([], [], _) => Err(format!("it holds no weights, but {}", some(&named(&[""])))),
        _ => {
            let all = [safetensors, if wanted == Weights::Any { pytorch } else { Vec::new() }].concat();
            Err(format!("it holds several files of weights; choose one of {}, as in hf:{id}/FILE", some(&all)))
        }
    }
}

fn some(paths: &[&str]) -> String {
    match paths {
        [] => "nothing".into(),
        [first @ .., _] if first.len() >= 6 => format!("{}, …", first[..6].join(", ")),
        all => all.join(", "),
    }
}
