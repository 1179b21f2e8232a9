//! Files that `torch.save` wrote: read without running the pickle in them.
//!
//! Both layouts are read: the zip archive of PyTorch 1.6 and later, and the older one of pickles in a row. The pickle
//! becomes plain objects ([`candle_core::pickle`]); of whatever it holds (a state dictionary, a checkpoint of several, a
//! whole module), the tensors under names are taken, each name with those of the dictionaries around it before it:
//! `state_dict.module.conv1.weight`.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Cursor, Read};
use std::path::Path;

use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// How a zip archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How the older layout begins: two pickles, PyTorch's magic number and the layout's version.
const PICKLES: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
/// Names of a module's parts that are not parts of its tensors' names.
const INSIDE_MODULES: [&str; 3] = ["_modules", "_parameters", "_buffers"];
/// Dictionaries in dictionaries.
const DEPTH: usize = 200;
/// Most bytes of a pickle: a ResNet's, with its optimiser's state, has a tenth of that.
const PICKLE: usize = 2 << 20;
/// The reader's stack: objects are nested no deeper than a pickle is long, and a level of them takes less than 512 bytes. Of
/// this, no more memory is taken than is used.
const STACK: usize = 512 * PICKLE;

/// Whether the bytes at a file's beginning are those of `torch.save`.
pub fn is_torch(beginning: &[u8]) -> bool {
    beginning.starts_with(ZIP) || beginning.starts_with(PICKLES)
}

/// Every tensor that has a name, on the CPU, from the content of a file; `path` is named in errors. Types that candle lacks
/// (8-bit signed, boolean, …) are left out.
///
/// # Errors
///
/// When the file is truncated, damaged, or was not written by `torch.save`.
pub fn read(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let damaged = |what: &str| {
        Error::checkpoint(
            path,
            format!("it is truncated, damaged or not what `torch.save` writes ({what}); use another copy"),
        )
    };
    if !is_torch(bytes) {
        return Err(damaged("it does not begin like it"));
    }
    let parse = || if bytes.starts_with(ZIP) { from_zip(bytes) } else { from_pickles(bytes) };
    let read = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, parse);
        // The pickle's reader trusts what it reads in some places: its panic ends the thread.
        reader.map(|reader| reader.join())
    });
    match read.map_err(|e| Error::io("start a reader of", path, e))? {
        // What follows the first line is a trace, where one is asked for.
        Ok(tensors) => tensors.map_err(|e| damaged(e.to_string().lines().next().unwrap_or_default())),
        Err(_) => Err(damaged("its pickle")),
    }
}

fn from_zip(bytes: &[u8]) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut pickle = None;
    for index in 0..zip.len() {
        let name = zip.by_index(index)?.name()?.into_owned();
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            pickle = Some(name);
            break;
        }
    }
    let Some(pickle) = pickle else { candle_core::bail!("it holds no data.pkl") };
    let mut text = Vec::new();
    zip.by_name(&pickle)?.take(PICKLE as u64 + 1).read_to_end(&mut text)?;
    if text.len() > PICKLE {
        candle_core::bail!("its pickle is longer than {PICKLE} bytes");
    }
    let object = object(&mut text.as_slice())?;
    let folder = pickle.strip_suffix(".pkl").unwrap_or_default();
    let mut storages: HashMap<String, Vec<u8>> = HashMap::new();
    let mut tensors = BTreeMap::new();
    for info in infos(object, Path::new(folder)) {
        if !storages.contains_key(&info.path) {
            let mut bytes = Vec::new();
            zip.by_name(&info.path)?.read_to_end(&mut bytes)?;
            storages.insert(info.path.clone(), bytes);
        }
        tensors.insert(info.name.clone(), tensor(&info, &storages[&info.path])?);
    }
    Ok(tensors)
}

fn from_pickles(bytes: &[u8]) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let bytes = bytes.get(PICKLES.len()..).unwrap_or_default();
    let mut pickles = &bytes[..bytes.len().min(PICKLE)];
    let _machine = object(&mut pickles)?;
    let saved = object(&mut pickles)?;
    let Object::List(keys) = object(&mut pickles)? else { candle_core::bail!("it has no list of storages") };
    let mut rest = &bytes[bytes.len().min(PICKLE) - pickles.len()..];
    let mut sizes = HashMap::new();
    element_sizes(&saved, &mut sizes, DEPTH);
    let mut storages = HashMap::new();
    for key in keys {
        let Object::Unicode(key) = key else { candle_core::bail!("a storage has no name") };
        let Some(size) = sizes.get(&key) else { candle_core::bail!("storage {key} has an unknown type") };
        let Some((count, after)) = rest.split_first_chunk::<8>() else { candle_core::bail!("it is truncated") };
        let length = u64::from_le_bytes(*count).saturating_mul(*size);
        let Some((storage, after)) = usize::try_from(length).ok().and_then(|length| after.split_at_checked(length))
        else {
            candle_core::bail!("it is truncated")
        };
        storages.insert(key, storage);
        rest = after;
    }
    let mut tensors = BTreeMap::new();
    for info in infos(saved, Path::new("")) {
        let key = info.path.trim_start_matches('/');
        let Some(bytes) = storages.get(key) else { candle_core::bail!("storage {key} is missing") };
        tensors.insert(info.name.clone(), tensor(&info, bytes)?);
    }
    Ok(tensors)
}

/// Reads one pickle.
fn object(reader: &mut impl BufRead) -> candle_core::Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(reader)?;
    stack.finalize()
}

/// What is known of every tensor that has a name.
fn infos(object: Object, folder: &Path) -> Vec<TensorInfo> {
    let mut found = Vec::new();
    collect(object, String::new(), folder, &mut found, DEPTH);
    found
}

fn collect(object: Object, name: String, folder: &Path, found: &mut Vec<TensorInfo>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match object {
        Object::Dict(entries) => {
            for (key, value) in entries {
                let Object::Unicode(key) = key else { continue };
                let inner = match (name.as_str(), INSIDE_MODULES.contains(&key.as_str())) {
                    (_, true) => name.clone(),
                    ("", false) => key,
                    (_, false) => format!("{name}.{key}"),
                };
                collect(value, inner, folder, found, depth);
            }
        }
        Object::Build { args, .. } => collect(*args, name, folder, found, depth),
        // A tensor alone has no name.
        reduced @ Object::Reduce { .. } if !name.is_empty() => {
            // What is no tensor, or of a type that candle lacks, has none to give.
            found.extend(reduced.into_tensor_info(Object::Unicode(name), folder).ok().flatten());
        }
        _ => {}
    }
}

/// Bytes of an element of each storage, wherever in the object it is named.
fn element_sizes(object: &Object, sizes: &mut HashMap<String, u64>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let mut each = |objects: &[Object]| objects.iter().for_each(|object| element_sizes(object, sizes, depth));
    match object {
        Object::Tuple(objects) | Object::List(objects) => each(objects),
        Object::Dict(entries) => entries.iter().for_each(|(_, value)| element_sizes(value, sizes, depth)),
        Object::Build { callable, args } | Object::Reduce { callable, args } => {
            element_sizes(callable, sizes, depth);
            element_sizes(args, sizes, depth);
        }
        Object::PersistentLoad(id) => {
            if let Object::Tuple(parts) = id.as_ref()
                && let [_, Object::Class { class_name, .. }, Object::Unicode(key), ..] = parts.as_slice()
                && let Some(size) = element_size(class_name)
            {
                sizes.insert(key.clone(), size);
            }
        }
        _ => {}
    }
}

fn element_size(storage: &str) -> Option<u64> {
    Some(match storage {
        "ComplexDoubleStorage" => 16,
        "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => 8,
        "FloatStorage" | "IntStorage" => 4,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "ByteStorage" | "CharStorage" | "BoolStorage" => 1,
        _ => return None,
    })
}

/// The tensor whose elements lie in `storage`, in whatever order of strides.
fn tensor(info: &TensorInfo, storage: &[u8]) -> candle_core::Result<Tensor> {
    let (layout, size) = (&info.layout, info.dtype.size_in_bytes());
    // The start of this layout is in bytes, its strides are in elements.
    let storage = match storage.get(layout.start_offset()..) {
        Some(storage) => storage,
        None => candle_core::bail!("{} begins beyond its storage", info.name),
    };
    let count = layout.shape().elem_count();
    let reach: usize = layout.dims().iter().zip(layout.stride()).map(|(d, s)| d.saturating_sub(1) * s).sum();
    if count > 0 && (reach + 1) * size > storage.len() {
        candle_core::bail!("{} is truncated", info.name);
    }
    if layout.is_contiguous() {
        return from_bytes(&storage[..count * size], info.dtype, layout.dims());
    }
    let mut bytes = Vec::with_capacity(count * size);
    for number in 0..count {
        let mut rest = number;
        let axes = layout.dims().iter().zip(layout.stride()).rev();
        let place: usize = axes
            .map(|(dim, stride)| {
                let index = rest % dim;
                rest /= dim;
                index * stride
            })
            .sum();
        bytes.extend_from_slice(&storage[place * size..(place + 1) * size]);
    }
    from_bytes(&bytes, info.dtype, layout.dims())
}

fn from_bytes(bytes: &[u8], dtype: DType, dims: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::from_raw_buffer(bytes, dtype, dims, &Device::Cpu)
}
