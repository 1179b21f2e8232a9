//! A repository of the Hub: pinned to a commit, its files fetched into the Hub's own cache and checked.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use equimod_data::Error;
use hf_hub::progress::{DownloadEvent, Progress, ProgressEvent, ProgressHandler, UploadEvent};
use hf_hub::repository::{RepoTreeEntry, RepoType, RepoTypeDataset, RepoTypeModel};
use hf_hub::{HFError, HFRepositorySync};
use sha2::{Digest, Sha256};

use super::client::Hub;
use super::patience::{Heard, Trouble};
use super::record::{Record, RemoteFile};
use crate::output::{self, Count};

/// The branch where none is named.
pub const MAIN: &str = "main";

/// A kind of repository.
pub trait Kind: RepoType {
    /// What one is called.
    const WHAT: &'static str;
    /// The command that fetches one.
    const FETCH: &'static str;

    /// Asks for the commit of a revision.
    fn commit(repository: &HFRepositorySync<Self>, revision: &str) -> Result<Option<String>, HFError>;

    /// Whether a file is of any use.
    fn is_useful(path: &str) -> bool;

    /// That something is wrong with `name`.
    fn error(name: &str, reason: String) -> anyhow::Error;
}

impl Kind for RepoTypeDataset {
    const WHAT: &'static str = "data set";
    const FETCH: &'static str = "equimod data fetch";

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
    const WHAT: &'static str = "model";
    const FETCH: &'static str = "equimod inspect";

    fn commit(repository: &HFRepositorySync<Self>, revision: &str) -> Result<Option<String>, HFError> {
        Ok(repository.info().revision(revision).send()?.sha)
    }

    fn is_useful(_: &str) -> bool {
        true
    }

    fn error(name: &str, reason: String) -> anyhow::Error {
        anyhow!("{name} cannot be used: {reason}")
    }
}

/// A repository as it is named.
pub struct Repository<'a, T: Kind> {
    hub: &'a Hub,
    remote: HFRepositorySync<T>,
    /// `OWNER/NAME`
    id: String,
    /// A branch, a tag or a commit.
    revision: Option<String>,
    /// The whole reference, for people.
    shown: String,
    /// What is known of it.
    record: Record,
}

/// A repository at a commit.
#[derive(Clone)]
pub struct Located {
    /// Forty hexadecimal digits.
    pub commit: String,
    /// What it holds that is of use.
    pub files: Vec<RemoteFile>,
}

impl Located {
    /// The file with this path.
    pub fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl<'a, T: Kind> Repository<'a, T> {
    /// The repository `owner/name` at `revision`, which people call `shown`.
    pub fn new(hub: &'a Hub, remote: HFRepositorySync<T>, revision: Option<&str>, shown: String) -> Self {
        let (owner, name) = (remote.owner(), remote.name());
        let id = format!("{owner}/{name}");
        let folder = format!("{}--{owner}--{name}", remote.repo_type().plural());
        let record = Record::read(&hub.cache.join(folder));
        Self { hub, id, revision: revision.map(str::to_owned), shown, record, remote }
    }

    /// The commit and its files: as recorded where it is pinned, or where the Hub cannot be reached. Where it has no file of
    /// use, those of the revision `instead` are taken.
    pub fn locate(&mut self, instead: Option<&str>) -> anyhow::Result<Located> {
        let known = self.recorded();
        match known {
            Some(known) if self.hub.offline || self.revision.as_deref() == Some(&known.commit) => Ok(known),
            None if self.hub.offline => Err(self.not_here("HF_HUB_OFFLINE is set")),
            _ => match self.ask(instead) {
                Ok(located) => Ok(located),
                Err(error) if error.is_unreachable() => {
                    let known = known.ok_or_else(|| self.not_here(&unreachable(&error)))?;
                    output::note(&format!(
                        "{}: taking commit {} of {}, which was fetched before",
                        unreachable(&error),
                        known.commit,
                        self.shown
                    ));
                    Ok(known)
                }
                Err(error) => Err(self.told(&error)),
            },
        }
    }

    /// What the record knows of the commit that is asked for.
    fn recorded(&self) -> Option<Located> {
        let revision = self.revision.as_deref().unwrap_or(MAIN);
        let commit = if is_commit(revision) { revision } else { self.record.revisions.get(revision)? };
        Some(Located { commit: commit.to_owned(), files: self.record.commits.get(commit)?.clone() })
    }

    fn ask(&mut self, instead: Option<&str>) -> Result<Located, Trouble> {
        let revision = self.revision.as_deref().unwrap_or(MAIN);
        let mut located = self.at(revision)?;
        if let (true, Some(instead)) = (located.files.is_empty(), instead) {
            match self.at(instead) {
                Ok(other) => located = other,
                Err(Trouble::Hub(HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. })) => {}
                Err(other) => return Err(other),
            }
        }
        located.files = self.record.keep(revision, &located.commit, located.files);
        Ok(located)
    }

    fn at(&self, revision: &str) -> Result<Located, Trouble> {
        let (remote, asked) = (self.remote.clone(), revision.to_owned());
        let ask = move || {
            let missing = || HFError::Other(format!("the Hub names no commit for revision {asked}"));
            let commit = T::commit(&remote, &asked)?.filter(|sha| is_commit(sha)).ok_or_else(missing)?;
            let tree = remote.list_tree().revision(commit.clone()).recursive(true).send()?;
            Ok((commit, tree))
        };
        let (commit, tree) = self.hub.patience.wait(&Heard::now(), ask)?;
        let file = |entry| match entry {
            RepoTreeEntry::File { path, size, .. } if T::is_useful(&path) && stays_inside(&path) => {
                Some(RemoteFile { path, size, checked: None })
            }
            _ => None,
        };
        Ok(Located { commit, files: tree.into_iter().filter_map(file).collect() })
    }

    /// A file on this machine, fetched if it is not here, and checked if it was not yet.
    pub fn file(&mut self, commit: &str, file: &RemoteFile) -> anyhow::Result<PathBuf> {
        let here = self.record.folder().join("snapshots").join(commit).join(&file.path);
        let whole = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.len() == file.size);
        if file.checked.is_some() && whole(&here) {
            return Ok(here);
        }
        if !here.is_file() && self.hub.offline {
            return Err(self.not_here("HF_HUB_OFFLINE is set"));
        }
        let path = match here.is_file() {
            true => here,
            false => self.download(commit, file)?,
        };
        match check(&path, file.size) {
            Ok(sum) => {
                self.record.check(commit, &file.path, sum);
                self.record.write()?;
                Ok(path)
            }
            Err(reason) => {
                discard(&path);
                let reason = format!("{} {reason}; it was removed from the cache, fetch it again", file.path);
                Err(T::error(&self.shown, reason))
            }
        }
    }

    fn download(&self, commit: &str, file: &RemoteFile) -> anyhow::Result<PathBuf> {
        output::note(&format!("fetching {} of {}, {:.1} MB", file.path, self.id, file.size as f64 / 1e6));
        let (remote, path, commit) = (self.remote.clone(), file.path.clone(), commit.to_owned());
        let heard = Heard::now();
        let bar = Bar { count: Count::of_bytes(file.size), heard: heard.clone() };
        let fetch = move || {
            let request = remote.download_file().filename(path).revision(commit);
            request.progress(Progress::new(bar)).send()
        };
        self.hub.patience.wait(&heard, fetch).map_err(|error| match error.is_unreachable() {
            true => self.not_here(&unreachable(&error)),
            false => self.told(&error),
        })
    }

    fn not_here(&self, why: &str) -> anyhow::Error {
        let (cache, fetch, shown) = (self.hub.cache.display(), T::FETCH, &self.shown);
        let reason =
            format!("{why}, and it is not in the cache {cache}; run `{fetch} {shown}` where there is a network");
        T::error(shown, reason)
    }

    /// One sentence that says what to do.
    fn told(&self, error: &Trouble) -> anyhow::Error {
        let Trouble::Hub(answer) = error else { return T::error(&self.shown, unreachable(error)) };
        let (id, what) = (&self.id, T::WHAT);
        let reason = match answer {
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => format!(
                "the Hub refuses access to it, or has no such {what}; if it is gated, accept its terms on its page, and set HF_TOKEN to a token that may read it{}",
                if let HFError::Forbidden { .. } = answer { " (this token may not)" } else { "" }
            ),
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
                let revision = self.revision.as_deref().unwrap_or(MAIN);
                format!("there is no {what} {id} on the Hub, or no revision {revision} of it")
            }
            HFError::RateLimited { .. } => "the Hub asks for a pause; try again later, or with HF_TOKEN set".into(),
            other => format!("the Hub's answer cannot be used: {other}"),
        };
        T::error(&self.shown, reason)
    }
}

/// Whether a revision is a commit.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a path of the server stays in the folder that it is put into.
fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Compares length and content with what the Hub promised; gives the SHA-256. In the cache, a large file is named by it.
fn check(path: &Path, size: u64) -> Result<String, String> {
    let read = |e: std::io::Error| format!("cannot be read ({e})");
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
        return Err(format!("has {length} bytes in place of {size}"));
    }
    let sum: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = std::fs::read_link(path).ok();
    let promised = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    match promised.len() == sum.len() && promised != sum {
        true => Err("has another checksum than the Hub promised".into()),
        false => Ok(sum),
    }
}

/// Removes a damaged file and what its name in the cache leads to.
fn discard(path: &Path) {
    if let Ok(blob) = path.canonicalize() {
        // What cannot be removed is found again by the next check.
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(path);
}

/// That nobody answered, in words.
pub fn unreachable(error: &Trouble) -> String {
    match error {
        Trouble::Hub(HFError::Request { url: Some(url), .. }) => {
            format!("{} cannot be reached", url.split('/').take(3).collect::<Vec<_>>().join("/"))
        }
        Trouble::Silent(time) => format!("the Hub gives no answer for {} s", time.as_secs_f64()),
        Trouble::Hub(_) => "the Hub cannot be reached".into(),
    }
}

/// Shows how far files have come, either way.
pub struct Bar {
    /// Bytes.
    pub count: Count,
    /// When something was heard last.
    pub heard: Heard,
}

impl ProgressHandler for Bar {
    fn on_progress(&self, event: &ProgressEvent) {
        self.heard.again();
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
