//! A repository of the Hub, resolved to a commit, with files that are downloaded to the Hub's cache and verified.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use equimod_data::Error;
use hf_hub::progress::{DownloadEvent, Progress, ProgressEvent, ProgressHandler, UploadEvent};
use hf_hub::repository::{RepoTreeEntry, RepoType, RepoTypeDataset, RepoTypeModel};
use hf_hub::{HFError, HFRepositorySync};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::cache_index::{CacheIndex, RemoteFile};
use super::client::Hub;
use super::timeout::{LastActivity, RequestError};
use crate::outputs::console::{self, Count};

/// Default branch.
pub const MAIN: &str = "main";

/// A type of repository.
pub trait Kind: RepoType {
    /// Name of the type in messages.
    const NAME: &'static str;
    /// Command that downloads such a repository.
    const FETCH_COMMAND: &'static str;

    /// Requests the commit of a revision.
    fn commit(repository: &HFRepositorySync<Self>, revision: &str) -> Result<Option<String>, HFError>;

    /// Whether a file of the repository is of use.
    fn is_useful(path: &str) -> bool;

    /// Error about the repository `name`.
    fn error(name: &str, reason: String) -> anyhow::Error;
}

impl Kind for RepoTypeDataset {
    const NAME: &'static str = "data set";
    const FETCH_COMMAND: &'static str = "equimod data fetch";

    fn commit(repository: &HFRepositorySync<Self>, revision: &str) -> Result<Option<String>, HFError> {
        Ok(repository.info().revision(revision).send()?.sha)
    }

    fn is_useful(path: &str) -> bool {
        path.ends_with(".parquet")
    }

    fn error(name: &str, reason: String) -> anyhow::Error {
        Error::DataSet { name: name.into(), reason }.into()
    }
}

impl Kind for RepoTypeModel {
    const NAME: &'static str = "model";
    const FETCH_COMMAND: &'static str = "equimod inspect";

    fn commit(repository: &HFRepositorySync<Self>, revision: &str) -> Result<Option<String>, HFError> {
        Ok(repository.info().revision(revision).send()?.sha)
    }

    fn is_useful(_: &str) -> bool {
        true
    }

    fn error(name: &str, reason: String) -> anyhow::Error {
        anyhow!("cannot use {name}: {reason}")
    }
}

/// A repository at the revision that the user asked for.
pub struct Repository<'a, T: Kind> {
    hub: &'a Hub,
    remote: HFRepositorySync<T>,
    /// Id, `OWNER/NAME`.
    id: String,
    /// Branch, tag or commit; `None` for the default branch.
    revision: Option<String>,
    /// Complete reference, for messages.
    shown: String,
    /// Index of the repository's files in the cache.
    index: CacheIndex,
}

/// Files of a repository at a commit.
#[derive(Clone)]
pub struct Snapshot {
    /// SHA of the commit, forty hexadecimal digits.
    pub commit: String,
    /// Files that are of use.
    pub files: Vec<RemoteFile>,
}

impl Snapshot {
    /// The file with this path, if there is one.
    pub fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl<'a, T: Kind> Repository<'a, T> {
    /// The repository of `remote` at `revision`; messages call it `shown`.
    pub fn new(hub: &'a Hub, remote: HFRepositorySync<T>, revision: Option<&str>, shown: String) -> Self {
        let (owner, name) = (remote.owner(), remote.name());
        let id = format!("{owner}/{name}");
        let folder = format!("{}--{owner}--{name}", remote.repo_type().plural());
        let index = CacheIndex::read(&hub.cache.join(folder));
        Self { hub, id, revision: revision.map(str::to_owned), shown, index, remote }
    }

    /// Resolves the revision to a commit and its files. A pinned commit, or an unreachable Hub, is answered from the
    /// cache. If the revision has no file of use, the revision `fallback` is used instead.
    ///
    /// # Errors
    ///
    /// If the repository is not available.
    pub fn resolve(&mut self, fallback: Option<&str>) -> anyhow::Result<Snapshot> {
        let cached = self.cached();
        match cached {
            Some(cached) if self.hub.offline => Ok(cached),
            // Another program may have downloaded a part of the files.
            Some(cached) if self.index.commits.contains_key(&cached.commit) && self.is_pinned_to(&cached) => Ok(cached),
            None if self.hub.offline => Err(self.not_cached("HF_HUB_OFFLINE is set")),
            _ => match self.request(fallback) {
                Ok(snapshot) => Ok(snapshot),
                Err(error) if error.is_unreachable() => {
                    let cached = cached.ok_or_else(|| self.not_cached(&unreachable(&error)))?;
                    console::note(&format!(
                        "{}: using commit {} of {} from the cache",
                        unreachable(&error),
                        cached.commit,
                        self.shown
                    ));
                    Ok(cached)
                }
                Err(error) => Err(self.describe(&error)),
            },
        }
    }

    fn is_pinned_to(&self, snapshot: &Snapshot) -> bool {
        self.revision.as_deref() == Some(&snapshot.commit)
    }

    /// The requested revision as of the cache index or, of files that another program downloaded, of the cache.
    fn cached(&self) -> Option<Snapshot> {
        let revision = self.revision.as_deref().unwrap_or(MAIN);
        let indexed = || {
            let commit = if is_commit(revision) { revision } else { self.index.revisions.get(revision)? };
            Some(Snapshot { commit: commit.to_owned(), files: self.index.commits.get(commit)?.clone() })
        };
        indexed().or_else(|| self.of_others(revision))
    }

    /// The files of a revision that are in the cache without an index.
    fn of_others(&self, revision: &str) -> Option<Snapshot> {
        let folder = self.index.folder();
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => std::fs::read_to_string(folder.join("refs").join(revision)).ok()?.trim().to_owned(),
        };
        let snapshot = folder.join("snapshots").join(&commit);
        let file = |entry: walkdir::DirEntry| {
            let path = entry.path().strip_prefix(&snapshot).ok()?.to_str()?.replace('\\', "/");
            let size = std::fs::metadata(entry.path()).ok().filter(|file| file.is_file() && T::is_useful(&path))?.len();
            Some(RemoteFile { path, size, checked: None })
        };
        let files: Vec<RemoteFile> =
            WalkDir::new(&snapshot).sort_by_file_name().into_iter().filter_map(|entry| file(entry.ok()?)).collect();
        (is_commit(&commit) && !files.is_empty()).then_some(Snapshot { commit, files })
    }

    fn request(&mut self, fallback: Option<&str>) -> Result<Snapshot, RequestError> {
        let revision = self.revision.as_deref().unwrap_or(MAIN);
        let mut snapshot = self.snapshot_at(revision)?;
        if let (true, Some(fallback)) = (snapshot.files.is_empty(), fallback) {
            match self.snapshot_at(fallback) {
                Ok(other) => snapshot = other,
                Err(RequestError::Hub(HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. })) => {}
                Err(other) => return Err(other),
            }
        }
        snapshot.files = self.index.insert_commit(revision, &snapshot.commit, snapshot.files);
        Ok(snapshot)
    }

    fn snapshot_at(&self, revision: &str) -> Result<Snapshot, RequestError> {
        let (remote, asked) = (self.remote.clone(), revision.to_owned());
        let request = move || {
            let missing = || HFError::Other(format!("the Hub reports no commit for revision {asked}"));
            let commit = T::commit(&remote, &asked)?.filter(|sha| is_commit(sha)).ok_or_else(missing)?;
            let tree = remote.list_tree().revision(commit.clone()).recursive(true).send()?;
            Ok((commit, tree))
        };
        let (commit, tree) = self.hub.timeout.run(&LastActivity::now(), request)?;
        let file = |entry| match entry {
            RepoTreeEntry::File { path, size, .. } if T::is_useful(&path) && stays_inside(&path) => {
                Some(RemoteFile { path, size, checked: None })
            }
            _ => None,
        };
        Ok(Snapshot { commit, files: tree.into_iter().filter_map(file).collect() })
    }

    /// Local path of a file, downloaded if it is not cached and verified if it has not been yet.
    ///
    /// # Errors
    ///
    /// If the file is not available, or does not match the Hub's size and checksum.
    pub fn file(&mut self, commit: &str, file: &RemoteFile) -> anyhow::Result<PathBuf> {
        let local = self.index.folder().join("snapshots").join(commit).join(&file.path);
        let whole = |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == file.size);
        if file.checked.is_some() && whole(&local) {
            return Ok(local);
        }
        if !local.is_file() && self.hub.offline {
            return Err(self.not_cached("HF_HUB_OFFLINE is set"));
        }
        let path = match local.is_file() {
            true => local,
            false => self.download(commit, file)?,
        };
        match check(&path, file.size) {
            Ok(sum) => {
                self.index.set_checksum(commit, &file.path, sum);
                self.index.write()?;
                Ok(path)
            }
            Err(reason) => {
                discard(&path);
                let reason = format!("{} {reason}; it was removed from the cache, download it again", file.path);
                Err(T::error(&self.shown, reason))
            }
        }
    }

    fn download(&self, commit: &str, file: &RemoteFile) -> anyhow::Result<PathBuf> {
        console::note(&format!("downloading {} of {}, {:.1} MB", file.path, self.id, file.size as f64 / 1e6));
        let (remote, path, commit) = (self.remote.clone(), file.path.clone(), commit.to_owned());
        let activity = LastActivity::now();
        let bar = TransferBar { count: Count::of_bytes(file.size), activity: activity.clone() };
        let download = move || {
            let request = remote.download_file().filename(path).revision(commit);
            request.progress(Progress::new(bar)).send()
        };
        self.hub.timeout.run(&activity, download).map_err(|error| match error.is_unreachable() {
            true => self.not_cached(&unreachable(&error)),
            false => self.describe(&error),
        })
    }

    fn not_cached(&self, why: &str) -> anyhow::Error {
        let (cache, fetch, shown) = (self.hub.cache.display(), T::FETCH_COMMAND, &self.shown);
        let reason = format!("{why}, and it is not in the cache {cache}; run `{fetch} {shown}` with network access");
        T::error(shown, reason)
    }

    /// Error message that says what to do.
    fn describe(&self, error: &RequestError) -> anyhow::Error {
        let RequestError::Hub(answer) = error else { return T::error(&self.shown, unreachable(error)) };
        let (id, kind) = (&self.id, T::NAME);
        let reason = match answer {
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => format!(
                "the Hub denies access to it, or has no such {kind}; if it is gated, accept its terms on its page, and \
                 set HF_TOKEN to a token with read access{}",
                if let HFError::Forbidden { .. } = answer { " (the current token has none)" } else { "" }
            ),
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
                let revision = self.revision.as_deref().unwrap_or(MAIN);
                format!("there is no {kind} {id} on the Hub, or no revision {revision} of it")
            }
            HFError::RateLimited { .. } => {
                "the Hub limits the rate of requests; try again later, or set HF_TOKEN".into()
            }
            other => format!("the Hub failed: {other}"),
        };
        T::error(&self.shown, reason)
    }
}

/// Whether a revision is the SHA of a commit.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a path from the server stays inside the folder of the repository.
fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Compares a file with the size and checksum from the Hub, and returns its SHA-256. The cache names the blob of a
/// large file by its SHA-256.
fn check(path: &Path, size: u64) -> Result<String, String> {
    let read = |e: std::io::Error| format!("cannot be read: {e}");
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let (mut hash, mut block, mut length) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut block).map_err(read)? {
            0 => break,
            count => {
                hash.update(&block[..count]);
                length += count as u64;
            }
        }
    }
    if length != size {
        return Err(format!("has {length} bytes instead of {size}"));
    }
    let sum: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = std::fs::read_link(path).ok();
    let expected = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    match expected.len() == sum.len() && expected != sum {
        true => Err("does not match the Hub's checksum".into()),
        false => Ok(sum),
    }
}

/// Removes a damaged file and the blob that it links to.
fn discard(path: &Path) {
    if let Ok(blob) = path.canonicalize() {
        // The next check finds a file that could not be removed.
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(path);
}

/// Message for an unreachable Hub.
pub fn unreachable(error: &RequestError) -> String {
    match error {
        RequestError::Hub(HFError::Request { url: Some(url), .. }) => {
            format!("{} cannot be reached", url.split('/').take(3).collect::<Vec<_>>().join("/"))
        }
        RequestError::TimedOut(time) => format!("the Hub did not answer for {} s", time.as_secs_f64()),
        RequestError::Hub(_) => "the Hub cannot be reached".into(),
    }
}

/// Progress bar of downloads and uploads.
pub struct TransferBar {
    /// Transferred bytes.
    pub count: Count,
    /// Time of the last transfer.
    pub activity: LastActivity,
}

impl ProgressHandler for TransferBar {
    fn on_progress(&self, event: &ProgressEvent) {
        self.activity.update();
        match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                self.count.set(files.iter().map(|file| file.bytes_completed).sum());
            }
            ProgressEvent::Upload(UploadEvent::Progress { bytes_completed, .. }) => self.count.set(*bytes_completed),
            ProgressEvent::Download(DownloadEvent::Complete) | ProgressEvent::Upload(UploadEvent::Complete) => {
                self.count.finish();
            }
            _ => {}
        }
    }
}
