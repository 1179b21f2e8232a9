//! Tensors and checkpoint folders on disk: safetensors with metadata, atomic writes, strict loading.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::load_report::LoadReport;
use crate::other_files::what_it_is;
use crate::params::ParamStore;
use crate::torch_file;
use crate::{Error, Result};

/// Metadata key of this crate's description, as JSON.
const METADATA_KEY: &str = "equimod";
/// Metadata key of the assumptions about weights from another codebase, as JSON.
const IMPORT_KEY: &str = "equimod_import";
/// Name of the file that marks a checkpoint folder as complete.
pub const MANIFEST: &str = "MANIFEST.json";
/// Version of the folder layout that this crate writes and reads.
pub const FORMAT: u32 = 1;
/// Name prefix of folders that are not yet complete.
pub const SAVING: &str = ".saving-";

/// Tensors and metadata of a file.
pub struct TensorFile {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// JSON text under the metadata key `equimod`.
    pub description: Option<String>,
    /// JSON text under the metadata key `equimod_import`: the assumptions about weights from another codebase.
    pub imported: Option<String>,
    /// Tensors of unsupported types, each with its type.
    pub not_read: Vec<String>,
}

/// Serializes `tensors` of any shapes as safetensors, with a JSON text in the metadata. The same input gives the same
/// bytes.
///
/// # Errors
///
/// If a tensor cannot be read from its device or has an unsupported type.
pub fn to_bytes(tensors: &BTreeMap<String, Tensor>, description: &str) -> Result<Vec<u8>> {
    with_metadata(tensors, METADATA_KEY, description)
}

/// Serializes `tensors` of any shapes as safetensors with the metadata `{"format": "pt"}`, which PyTorch libraries
/// expect. The same input gives the same bytes.
///
/// # Errors
///
/// Those of [`to_bytes`].
pub fn to_torch_bytes(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    with_metadata(tensors, "format", "pt")
}

/// [`to_torch_bytes`] for weights from another codebase, with the assumptions about them as JSON in the metadata.
///
/// # Errors
///
/// Those of [`to_bytes`].
pub fn to_imported_bytes(tensors: &BTreeMap<String, Tensor>, imported: &str) -> Result<Vec<u8>> {
    let bytes = to_torch_bytes(tensors)?;
    let unwritable = |e: String| Error::internal(format!("tensors cannot be written as safetensors: {e}"));
    // The library writes metadata in the order of a hash map, so it gets one key; the second is added to the header.
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| unwritable("no header".into()))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, values) = rest.split_at_checked(length).ok_or_else(|| unwritable("no header".into()))?;
    let mut header: serde_json::Value = serde_json::from_slice(header).map_err(|e| unwritable(e.to_string()))?;
    header["__metadata__"][IMPORT_KEY] = imported.into();
    let mut header = serde_json::to_vec(&header).map_err(|e| unwritable(e.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header, values].concat())
}

fn with_metadata(tensors: &BTreeMap<String, Tensor>, key: &str, value: &str) -> Result<Vec<u8>> {
    // One key only, because the metadata is written in the order of a hash map.
    let metadata = HashMap::from([(key.to_owned(), value.to_owned())]);
    let contiguous = tensors.iter().map(|(name, t)| Ok((name, t.contiguous()?))).collect::<Result<Vec<_>>>()?;
    safetensors::serialize(contiguous.iter().map(|(name, t)| (name, t)), Some(metadata))
        .map_err(|e| Error::internal(format!("tensors cannot be written as safetensors: {e}")))
}

/// Reason why bytes cannot be read as safetensors. Truncation is reported only if the declared lengths prove it.
fn unreadable(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    match header {
        // The header is JSON; it declares the length of the data after it.
        Some(length) if bytes.get(8) == Some(&b'{') && length < 1 << 40 => {
            if length > bytes.len() as u64 - 8
                || matches!(error, safetensors::SafeTensorError::MetadataIncompleteBuffer)
            {
                return "it is truncated (its tensors are announced, but not all there); fetch it again".into();
            }
            format!("its header is not that of a safetensors file ({error}); use another copy")
        }
        _ => "it is neither a safetensors file nor one of PyTorch; give one of those".into(),
    }
}

/// Reads tensors and metadata from the bytes of a safetensors file; `path` names the file in errors.
///
/// # Errors
///
/// If the bytes are no safetensors file, or a tensor operation fails.
pub fn from_bytes(bytes: &[u8], path: &Path, device: &Device) -> Result<TensorFile> {
    use candle_core::safetensors::Load;
    let foreign = |e: safetensors::SafeTensorError| match (torch_file::is_torch(bytes), what_it_is(bytes)) {
        (true, _) => {
            Error::checkpoint(path, "it is a file of PyTorch; `equimod import` makes a .safetensors file of it")
        }
        (_, Some(what)) => Error::checkpoint(path, what),
        (_, None) => Error::checkpoint(path, unreadable(bytes, &e)),
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
    let file = SafeTensors::deserialize(bytes).map_err(foreign)?;
    let mut tensors = BTreeMap::new();
    let mut not_read = Vec::new();
    for (name, view) in file.tensors() {
        match view.load(device) {
            Ok(tensor) => drop(tensors.insert(name, tensor)),
            Err(error) if is_unknown_type(&error) => {
                not_read.push(format!("{name}: its type {:?} is not read", view.dtype()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let text = |key: &str| metadata.metadata().as_ref().and_then(|m| m.get(key).cloned());
    Ok(TensorFile { tensors, description: text(METADATA_KEY), imported: text(IMPORT_KEY), not_read })
}

/// Whether the error is a tensor type that candle lacks.
fn is_unknown_type(error: &candle_core::Error) -> bool {
    match error {
        candle_core::Error::UnsupportedSafeTensorDtype(_) => true,
        candle_core::Error::WithBacktrace { inner, .. } => is_unknown_type(inner),
        _ => false,
    }
}

/// Reads a whole file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io("read", path, e))
}

/// Writes a file atomically: after a crash, it has either the old or the new content. It writes a temporary file in the
/// same folder, then calls fsync, renames it, and calls fsync on the folder.
///
/// # Errors
///
/// If writing, syncing or renaming fails.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = parent(path);
    let fail = |e| Error::io("write", path, e);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private; the final file has the usual permissions.
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(fail)?;
    }
    file.persist(path).map_err(|e| fail(e.error))?;
    sync_folder(folder)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    // Folders can be opened and synced only on Unix.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, e))?;
    }
    Ok(())
}

/// Manifest of a complete checkpoint folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] with which the folder was written.
    pub format: u32,
    /// All files except the manifest.
    pub files: Vec<ManifestFile>,
}

/// One file of a checkpoint folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Name within the folder.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a folder `name` in `parent` with the given files and their manifest. All files go to a temporary folder
/// first, which is synced and renamed; on failure, nothing remains. An existing folder is replaced.
///
/// # Errors
///
/// If writing, syncing or renaming fails.
pub fn commit_folder(parent: &Path, name: &str, files: &[(&str, Vec<u8>)]) -> Result<PathBuf> {
    let entry = |(name, bytes): &(&str, Vec<u8>)| ManifestFile {
        name: (*name).into(),
        size: bytes.len() as u64,
        sha256: sha256(bytes),
    };
    let manifest = Manifest { format: FORMAT, files: files.iter().map(entry).collect() };
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Error::internal(format!("a manifest cannot be written as JSON: {e}")))?;
    let target = parent.join(name);
    let files = files.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    let staged = stage(&target, files.chain([(MANIFEST, text.as_slice())]))?;
    if target.exists() {
        fs::remove_dir_all(&target).map_err(|e| Error::io("replace", &target, e))?;
    }
    place(&staged, &target)
}

/// Writes a folder that does not exist yet or is empty. File names may contain folders. On failure, nothing remains.
///
/// # Errors
///
/// If the folder is not empty, or writing, syncing or renaming fails.
pub fn write_folder<'a>(target: &Path, files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<PathBuf> {
    place(&stage(target, files)?, target)
}

/// Writes files to a temporary folder next to `target` and syncs them.
fn stage<'a>(target: &Path, files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<tempfile::TempDir> {
    let parent = parent(target);
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    let fail = |e| Error::io("write", target, e);
    let folder = tempfile::Builder::new().prefix(SAVING).tempdir_in(parent).map_err(fail)?;
    let mut inner = BTreeSet::from([folder.path().to_owned()]);
    for (name, bytes) in files {
        let path = folder.path().join(name);
        let within = self::parent(&path).to_owned();
        fs::create_dir_all(&within).map_err(fail)?;
        inner.extend(within.ancestors().take_while(|above| above.starts_with(folder.path())).map(Path::to_owned));
        write_synced(&path, bytes)?;
    }
    inner.iter().try_for_each(|folder| sync_folder(folder))?;
    Ok(folder)
}

/// Renames a staged folder to its final name.
fn place(staged: &tempfile::TempDir, target: &Path) -> Result<PathBuf> {
    let fail = |e| Error::io("write", target, e);
    fs::rename(staged.path(), target).map_err(fail)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(target, fs::Permissions::from_mode(0o755)).map_err(fail)?;
    }
    sync_folder(parent(target))?;
    Ok(target.to_owned())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e| Error::io("write", path, e);
    let mut file = File::create(path).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)
}

/// Reads the files of a checkpoint folder and verifies each against the manifest.
///
/// # Errors
///
/// If the folder has no manifest or one of another format, or a file is missing or differs from its entry.
pub fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Err(Error::checkpoint(
            folder,
            format!("it has no {MANIFEST}; it was never finished or is no checkpoint"),
        ));
    }
    let manifest: Manifest = serde_json::from_slice(&read_file(&path)?)
        .map_err(|e| Error::checkpoint(&path, format!("it cannot be read ({e}); use an older checkpoint")))?;
    if manifest.format != FORMAT {
        let text = format!("its format is {}, this version reads {FORMAT}; use a matching version", manifest.format);
        return Err(Error::checkpoint(folder, text));
    }
    let mut files = BTreeMap::new();
    for file in manifest.files {
        let bytes = read_file(&folder.join(&file.name))?;
        if bytes.len() as u64 != file.size || sha256(&bytes) != file.sha256 {
            let text = format!("{} differs from its entry in {MANIFEST}; use an older checkpoint", file.name);
            return Err(Error::checkpoint(folder, text));
        }
        files.insert(file.name, bytes);
    }
    Ok(files)
}

/// Compares the names and shapes of `tensors` with those in the store.
pub fn compare(store: &ParamStore, tensors: &BTreeMap<String, Tensor>) -> LoadReport {
    let mut report = LoadReport::default();
    for (name, slot) in store.iter() {
        match tensors.get(name) {
            None => report.missing.push(name.to_owned()),
            Some(t) if t.elem_count() != slot.var.elem_count() || !same_shape(t, slot.var.as_tensor()) => {
                report.reshaped.push(format!("{name}: {:?} in the file, {:?} here", t.dims(), slot.var.dims()));
            }
            Some(_) => report.matched.push(name.to_owned()),
        }
    }
    report.unexpected = tensors.keys().filter(|name| store.get(name).is_none()).cloned().collect();
    report
}

/// Whether the shapes are equal; some writers store scalars with one dimension.
fn same_shape(a: &Tensor, b: &Tensor) -> bool {
    a.dims() == b.dims() || (a.elem_count() == 1 && b.elem_count() == 1)
}

/// Copies `tensors` into the store, as `load_state_dict(strict=True)`. `path` names the file in errors.
///
/// # Errors
///
/// If a name or shape does not match, in which case the store is unchanged, or a copy fails.
pub fn load_strict(store: &ParamStore, tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<LoadReport> {
    let report = compare(store, tensors);
    if !report.is_exact() {
        return Err(Error::Mismatch { path: path.into(), report: Box::new(report) });
    }
    for (name, slot) in store.iter() {
        let var = &slot.var;
        var.set(&tensors[name].reshape(var.shape())?.to_dtype(var.dtype())?.to_device(var.device())?)?;
    }
    Ok(report)
}
