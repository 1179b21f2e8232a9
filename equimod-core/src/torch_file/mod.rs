//! Reader of files written by `torch.save`, which does not execute the pickle in them.
//!
//! Both layouts are supported: the zip archive of PyTorch 1.6 and later, and the older one of consecutive pickles. The
//! pickle is parsed into plain objects. It may hold a state dict, a checkpoint with several of them, a tuple of a model
//! and an optimizer, or a whole module. All named tensors are read; the keys of the surrounding dictionaries become
//! prefixes of their names: `state_dict.module.conv1.weight`.

mod archive;
mod element;
mod facts;
mod fault;
mod legacy;
mod object;
mod pickle;
mod tensor;
mod walk;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::Tensor;

use crate::{Error, Result};
use archive::Archive;
use fault::{Fault, Read, not_read};
use object::Pickle;
use walk::{PickleContent, walk};

/// Signature at the start of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";

/// Content of a file.
#[derive(Clone, Debug, Default)]
pub struct TorchFile {
    /// All named tensors, on the CPU. Signed 8-bit integers are widened to 16 bits, and 8-bit floating-point numbers to
    /// 32.
    pub tensors: BTreeMap<String, Tensor>,
    /// Tensors and arrays that are not supported, each with the reason: `name: why`.
    pub not_read: Vec<String>,
    /// Content of the outermost dictionary, list or tuple other than tensors, in words: `epoch (3)`.
    pub beside: Vec<String>,
    /// Settings stored in the file (hyperparameters, arguments, …), as JSON.
    pub settings: serde_json::Value,
}

/// Whether a file was written by `torch.save`, by its first bytes; 64 of them are enough.
pub fn is_torch(beginning: &[u8]) -> bool {
    beginning.starts_with(ZIP) || legacy::begins(beginning)
}

/// Reads the content of a file; `path` names the file in errors.
///
/// # Errors
///
/// If the file is truncated or damaged, or was not written by `torch.save`.
pub fn read(bytes: &[u8], path: &Path) -> Result<TorchFile> {
    let read = match bytes {
        zip if zip.starts_with(ZIP) => from_zip(zip),
        old if legacy::begins(old) => from_pickles(old),
        _ => not_read("it does not begin like what `torch.save` writes"),
    };
    read.map_err(|fault| Error::checkpoint(path, fault.sentence()))
}

/// Author of a pickle that `torch.save` did not write, if it records one, as those of Detectron2's model zoo do.
pub(crate) fn writer_of_pickle(bytes: &[u8]) -> Option<String> {
    Some(facts::facts(&pickle::read(bytes).ok()?).get("__author__")?.as_str()?.to_owned())
}

fn from_zip(bytes: &[u8]) -> Read<TorchFile> {
    let archive = Archive::open(bytes)?;
    let Some(pickle) = archive.find(|name| name == "data.pkl" || name.ends_with("/data.pkl")) else {
        return not_read("it is a zip archive without data.pkl, and so not what `torch.save` writes");
    };
    let folder = pickle.strip_suffix(".pkl").unwrap_or_default();
    if let Some(order) = archive.find(|name| name.strip_suffix("byteorder") == folder.strip_suffix("data"))
        && archive.read(order)?.as_ref() != b"little"
    {
        return not_read("it was written by a big-endian machine");
    }
    let text = archive.read(pickle)?;
    let mut storages: HashMap<String, Cow<[u8]>> = HashMap::new();
    tensors(&pickle::read(&text)?, |key| {
        if !storages.contains_key(key) {
            storages.insert(key.to_owned(), archive.read(&format!("{folder}/{key}"))?);
        }
        Ok(storages[key].clone())
    })
}

fn from_pickles(bytes: &[u8]) -> Read<TorchFile> {
    let (saved, storages) = legacy::read(bytes)?;
    tensors(&saved, |key| match storages.get(key) {
        Some(storage) => Ok(Cow::Borrowed(*storage)),
        None => Err(Fault::NotRead(format!("storage {key} is missing"))),
    })
}

/// Content of a pickle, with the storages by name.
fn tensors<'s>(pickle: &Pickle, mut storage: impl FnMut(&str) -> Read<Cow<'s, [u8]>>) -> Read<TorchFile> {
    let PickleContent { tensors: infos, not_read, beside } = walk(pickle);
    let mut file = TorchFile { not_read, beside, settings: facts::facts(pickle), ..TorchFile::default() };
    for (name, info) in infos {
        let tensor = info.tensor(&storage(info.storage)?, &name)?;
        file.tensors.insert(name, tensor);
    }
    Ok(file)
}
