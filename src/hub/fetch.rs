//! Talking to the Hub.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use equimod_data::Error;
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::{RepoTreeEntry, RepoTypeDataset};
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync};
use sha2::{Digest, Sha256};

use super::layout::splits;
use super::patience::{Heard, Patience, Trouble};
use super::record::{Record, RemoteFile};
use super::reference::Reference;
use super::{Fetched, Wanted};
use crate::output::{self, Count};

/// The branch on which the Hub keeps what it made of data sets in other formats.
const CONVERTED: &str = "refs/convert/parquet";
const MAIN: &str = "main";
/// Attempts after the first.
const RETRIES: usize = 3;

/// The Hub, as the environment describes it.
pub struct Hub {
    client: HFClientSync,
    cache: PathBuf,
    offline: bool,
    patience: Patience,
}

/// A data set at a commit.
struct Located {
    commit: String,
    files: Vec<RemoteFile>,
}

impl Hub {
    /// Reads the environment.
    pub fn of_environment() -> anyhow::Result<Self> {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let client = HFClient::builder()
            .user_agent(concat!("equimod/", env!("CARGO_PKG_VERSION")))
            .retry_max_attempts(RETRIES)
            .build_sync()
            .map_err(|e| anyhow!("the Hub cannot be used ({e}); look at HF_ENDPOINT"))?;
        Ok(Self { client, cache: hf_hub::resolve_cache_dir(), offline, patience: Patience::of_environment() })
    }

    /// Fetches what is wanted and not here yet; every file's content is checked once.
    pub fn fetch(&self, reference: &Reference, wanted: Wanted) -> anyhow::Result<Fetched> {
        let mut record = Record::read(&self.folder(reference));
        let located = self.locate(reference, &mut record)?;
        let failed = |reason: String| Error::DataSet { name: reference.to_string(), reason };
        let paths = located.files.iter().map(|file| file.path.as_str());
        let chosen = choose(splits(reference, paths).map_err(failed)?, wanted);
        let mut found = Fetched { reference: reference.pinned(&located.commit), splits: BTreeMap::new(), bytes: 0 };
        for (split, paths) in chosen {
            for path in paths {
                let Some(file) = located.files.iter().find(|file| file.path == path) else { continue };
                let local = self.file(reference, &located.commit, file, &mut record)?;
                found.splits.entry(split.clone()).or_default().push(local);
                found.bytes += file.size;
            }
        }
        Ok(found)
    }

    /// The data set's part of the cache.
    fn folder(&self, reference: &Reference) -> PathBuf {
        self.cache.join(format!("datasets--{}--{}", reference.owner, reference.name))
    }

    fn repository(&self, reference: &Reference) -> HFRepositorySync<RepoTypeDataset> {
        self.client.dataset(&reference.owner, &reference.name)
    }

    /// The commit and its parquet files: as recorded where it is pinned, or where the Hub cannot be reached.
    fn locate(&self, reference: &Reference, record: &mut Record) -> anyhow::Result<Located> {
        let known = recorded(reference, record);
        match known {
            Some(known) if self.offline || reference.revision.as_deref() == Some(&known.commit) => Ok(known),
            None if self.offline => Err(self.not_here(reference, "HF_HUB_OFFLINE is set")),
            _ => match self.ask(reference, record) {
                Ok(located) => Ok(located),
                Err(error) if error.is_unreachable() => {
                    let known = known.ok_or_else(|| self.not_here(reference, &unreachable(&error)))?;
                    output::note(&format!(
                        "{}: taking commit {} of {reference}, which was fetched before",
                        unreachable(&error),
                        known.commit
                    ));
                    Ok(known)
                }
                Err(error) => Err(told(reference, &error)),
            },
        }
    }

    /// Asks the Hub; where a data set has no parquet files of its own, those that the Hub made of it are taken.
    fn ask(&self, reference: &Reference, record: &mut Record) -> Result<Located, Trouble> {
        let revision = reference.revision.as_deref().unwrap_or(MAIN);
        let mut located = self.at(reference, revision)?;
        if located.files.is_empty() && reference.revision.is_none() {
            match self.at(reference, CONVERTED) {
                Ok(converted) => located = converted,
                Err(Trouble::Hub(HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. })) => {}
                Err(other) => return Err(other),
            }
        }
        record.keep(revision, &located.commit, located.files.clone());
        Ok(located)
    }

    fn at(&self, reference: &Reference, revision: &str) -> Result<Located, Trouble> {
        let (repository, asked) = (self.repository(reference), revision.to_owned());
        let ask = move || {
            let missing = || HFError::Other(format!("the Hub names no commit for revision {asked}"));
            let sha = repository.info().revision(&asked).send()?.sha;
            let commit = sha.filter(|sha| is_commit(sha)).ok_or_else(missing)?;
            let tree = repository.list_tree().revision(commit.clone()).recursive(true).send()?;
            Ok((commit, tree))
        };
        let (commit, tree) = self.patience.wait(&Heard::now(), ask)?;
        let file = |entry| match entry {
            RepoTreeEntry::File { path, size, .. } if path.ends_with(".parquet") && stays_inside(&path) => {
                Some(RemoteFile { path, size, checked: None })
            }
            _ => None,
        };
        Ok(Located { commit, files: tree.into_iter().filter_map(file).collect() })
    }

    /// A file on this machine, fetched if it is not here, and checked if it was not yet.
    fn file(
        &self,
        reference: &Reference,
        commit: &str,
        file: &RemoteFile,
        record: &mut Record,
    ) -> anyhow::Result<PathBuf> {
        let here = self.folder(reference).join("snapshots").join(commit).join(&file.path);
        let whole = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.len() == file.size);
        if file.checked.is_some() && whole(&here) {
            return Ok(here);
        }
        if !here.is_file() && self.offline {
            return Err(self.not_here(reference, "HF_HUB_OFFLINE is set"));
        }
        let path = match here.is_file() {
            true => here,
            false => self.download(reference, commit, file)?,
        };
        match check(&path, file.size) {
            Ok(sum) => {
                record.check(commit, &file.path, sum);
                record.write()?;
                Ok(path)
            }
            Err(reason) => {
                discard(&path);
                let reason = format!("{} {reason}; it was removed from the cache, fetch it again", file.path);
                Err(Error::DataSet { name: reference.to_string(), reason }.into())
            }
        }
    }

    fn download(&self, reference: &Reference, commit: &str, file: &RemoteFile) -> anyhow::Result<PathBuf> {
        output::note(&format!("fetching {} of {}, {:.1} MB", file.path, reference.id(), file.size as f64 / 1e6));
        let (repository, path, commit) = (self.repository(reference), file.path.clone(), commit.to_owned());
        let heard = Heard::now();
        let bar = Bar { count: Count::of_bytes(file.size), heard: heard.clone() };
        let fetch = move || {
            let request = repository.download_file().filename(path).revision(commit);
            request.progress(hf_hub::progress::Progress::new(bar)).send()
        };
        self.patience.wait(&heard, fetch).map_err(|error| match error.is_unreachable() {
            true => self.not_here(reference, &unreachable(&error)),
            false => told(reference, &error),
        })
    }

    fn not_here(&self, reference: &Reference, why: &str) -> anyhow::Error {
        let reason = format!(
            "{why}, and it is not in the cache {}; run `equimod data fetch {reference}` where there is a network",
            self.cache.display()
        );
        Error::DataSet { name: reference.to_string(), reason }.into()
    }
}

/// What the record knows of the commit that is asked for.
fn recorded(reference: &Reference, record: &Record) -> Option<Located> {
    let revision = reference.revision.as_deref().unwrap_or(MAIN);
    let commit = if is_commit(revision) { revision } else { record.revisions.get(revision)? };
    let files = record.commits.get(commit)?.clone();
    Some(Located { commit: commit.to_owned(), files })
}

/// The splits that are wanted, of those there are.
fn choose(mut splits: BTreeMap<String, Vec<&str>>, wanted: Wanted) -> BTreeMap<String, Vec<&str>> {
    if splits.len() == 1 || wanted == Wanted::All {
        return splits;
    }
    let evaluated = |split: &str| wanted == Wanted::Evaluation && ["validation", "test"].contains(&split);
    splits.retain(|split, _| split == "train" || evaluated(split));
    splits
}

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

fn unreachable(error: &Trouble) -> String {
    match error {
        Trouble::Hub(HFError::Request { url: Some(url), .. }) => {
            format!("{} cannot be reached", url.split('/').take(3).collect::<Vec<_>>().join("/"))
        }
        Trouble::Silent(time) => format!("the Hub gives no answer for {} s", time.as_secs_f64()),
        Trouble::Hub(_) => "the Hub cannot be reached".into(),
    }
}

/// One sentence that says what to do.
fn told(reference: &Reference, error: &Trouble) -> anyhow::Error {
    let id = reference.id();
    let Trouble::Hub(answer) = error else {
        return Error::DataSet { name: reference.to_string(), reason: unreachable(error) }.into();
    };
    let reason = match answer {
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => format!(
            "the Hub refuses access to it, or has no such data set; if it is gated, accept its terms on its page, and set HF_TOKEN to a token that may read it{}",
            if let HFError::Forbidden { .. } = answer { " (this token may not)" } else { "" }
        ),
        HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
            let revision = reference.revision.as_deref().unwrap_or(MAIN);
            format!("there is no data set {id} on the Hub, or no revision {revision} of it")
        }
        HFError::RateLimited { .. } => "the Hub asks for a pause; try again later, or with HF_TOKEN set".into(),
        other => format!("the Hub's answer cannot be used: {other}"),
    };
    Error::DataSet { name: reference.to_string(), reason }.into()
}

/// Shows how far a file has come.
struct Bar {
    count: Count,
    heard: Heard,
}

impl ProgressHandler for Bar {
    fn on_progress(&self, event: &ProgressEvent) {
        self.heard.again();
        match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                self.count.set(files.iter().map(|file| file.bytes_completed).sum());
            }
            ProgressEvent::Download(DownloadEvent::Complete) => self.count.finish(),
            _ => {}
        }
    }
}
