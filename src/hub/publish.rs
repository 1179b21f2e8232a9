//! An export becomes one commit on the Hub.

use anyhow::{anyhow, bail};
use hf_hub::progress::Progress;
use hf_hub::repository::{CommitInfo, CommitOperation, RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFError, HFRepositorySync};

use super::client::Hub;
use super::patience::{Heard, Trouble};
use super::repository::{Bar, Kind, MAIN, unreachable};
use super::token::Token;
use super::{Publication, Published};
use crate::artifact::CARD_FILE;
use crate::card::is_edited;
use crate::export::sums::{self, SUMS_FILE};
use crate::output::{self, Count};

type Remote = HFRepositorySync<RepoTypeModel>;

/// A repository that is published to.
struct Publisher<'a> {
    hub: Hub,
    remote: Remote,
    token: Token,
    what: &'a Publication<'a>,
}

/// What a branch holds before the commit.
struct Before {
    commit: String,
    paths: Vec<String>,
}

/// Sends the files in one commit on top of what is there.
pub fn publish(what: &Publication) -> anyhow::Result<Published> {
    let Some(token) = Token::of_environment() else {
        bail!(
            "publishing needs a token of the Hub; make one that may write at https://huggingface.co/settings/tokens, and set HF_TOKEN to it"
        );
    };
    let hub = Hub::with_token(&token)?;
    if hub.offline {
        bail!("HF_HUB_OFFLINE is set, so nothing can be published; unset it");
    }
    let remote = hub.client.model(what.owner, what.name);
    let publisher = Publisher { hub, remote, token, what };
    let before = publisher.before()?;
    let operations = publisher.operations(&before)?;
    let info = publisher.commit(&before, operations)?;
    publisher.published(info)
}

impl Publisher<'_> {
    fn id(&self) -> String {
        format!("{}/{}", self.what.owner, self.what.name)
    }

    fn branch(&self) -> &str {
        self.what.revision.unwrap_or(MAIN)
    }

    /// Asks the Hub something that takes no time.
    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Remote) -> Result<T, HFError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let remote = self.remote.clone();
        self.hub.patience.wait(&Heard::now(), move || call(&remote))
    }

    /// The head of the branch; repository and branch are made where they are not there.
    fn before(&self) -> anyhow::Result<Before> {
        let commit = match self.head(MAIN)? {
            Some(commit) => commit,
            None => {
                if self.what.create_pr {
                    bail!(
                        "there is no repository {} to propose a pull request to; leave --create-pr out to make it",
                        self.id()
                    );
                }
                self.create()?;
                let missing = || anyhow!("the Hub made {}, but names no commit of it; try again", self.id());
                self.head(MAIN)?.ok_or_else(missing)?
            }
        };
        let commit = match self.what.revision.filter(|branch| *branch != MAIN) {
            None => commit,
            Some(branch) => match self.head(branch)? {
                Some(commit) => commit,
                None => {
                    let (name, start) = (branch.to_owned(), commit.clone());
                    self.ask(move |remote| remote.create_branch().branch(&name).revision(start).send())
                        .map_err(|trouble| self.told(&trouble))?;
                    output::note(&format!("made the branch {branch} of {}", self.id()));
                    commit
                }
            },
        };
        Ok(Before { paths: self.paths(&commit)?, commit })
    }

    fn create(&self) -> anyhow::Result<()> {
        let (client, id, private) = (self.hub.client.clone(), self.id(), self.what.private);
        let create = move || {
            client.create_repository().repo_id(&id).repo_type(RepoTypeModel).private(private).exist_ok(true).send()
        };
        self.hub.patience.wait(&Heard::now(), create).map_err(|trouble| self.told(&trouble))?;
        let visible = if self.what.private { "private" } else { "public" };
        output::note(&format!("made the {visible} repository {}", self.id()));
        Ok(())
    }

    /// The commit of a branch, if there is one.
    fn head(&self, branch: &str) -> anyhow::Result<Option<String>> {
        let asked = branch.to_owned();
        match self.ask(move |remote| RepoTypeModel::commit(remote, &asked)) {
            Ok(commit) => Ok(commit),
            Err(Trouble::Hub(HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. })) => Ok(None),
            Err(trouble) => Err(self.told(&trouble)),
        }
    }

    fn paths(&self, commit: &str) -> anyhow::Result<Vec<String>> {
        let commit = commit.to_owned();
        let tree = self.ask(move |remote| remote.list_tree().revision(commit).recursive(true).send());
        let path = |entry| match entry {
            RepoTreeEntry::File { path, .. } => Some(path),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(tree.map_err(|trouble| self.told(&trouble))?.into_iter().filter_map(path).collect())
    }

    /// A small file of the repository, if it is there.
    fn read(&self, before: &Before, path: &'static str) -> anyhow::Result<Option<Vec<u8>>> {
        if !before.paths.iter().any(|known| known == path) {
            return Ok(None);
        }
        let commit = before.commit.clone();
        let bytes = self.ask(move |remote| remote.download_file_to_bytes().filename(path).revision(commit).send());
        Ok(Some(bytes.map_err(|trouble| self.told(&trouble))?.to_vec()))
    }

    /// Every file, but for a card that a person edited; what an earlier export had and this one lacks is removed.
    fn operations(&self, before: &Before) -> anyhow::Result<Vec<CommitOperation>> {
        let card = self.read(before, CARD_FILE)?;
        let kept = !self.what.force_card
            && card.is_some_and(|card| is_edited(&card) && self.what.files.get(CARD_FILE) != Some(&card));
        if kept {
            output::note(&format!(
                "{CARD_FILE} in {} was edited by a person and stays as it is; --force-card overwrites it",
                self.id()
            ));
        }
        let sent = self.what.files.iter().filter(|(name, _)| !kept || name.as_str() != CARD_FILE);
        let mut operations: Vec<CommitOperation> =
            sent.map(|(name, bytes)| CommitOperation::add_bytes(name.clone(), bytes.clone())).collect();
        if let Some(earlier) = self.read(before, SUMS_FILE)? {
            let earlier = String::from_utf8_lossy(&earlier).into_owned();
            for (name, _) in sums::parse(&earlier) {
                if !self.what.files.contains_key(name) && before.paths.iter().any(|path| path == name) {
                    output::note(&format!("removing {name}, which the export no longer has"));
                    operations.push(CommitOperation::delete(name));
                }
            }
        }
        Ok(operations)
    }

    /// One commit on top of `before`, or none.
    fn commit(&self, before: &Before, operations: Vec<CommitOperation>) -> anyhow::Result<CommitInfo> {
        let bytes: u64 = self.what.files.values().map(|bytes| bytes.len() as u64).sum();
        output::note(&format!("sending {} files to {}, {:.1} MB", operations.len(), self.id(), bytes as f64 / 1e6));
        let heard = Heard::now();
        let bar = Bar { count: Count::of_bytes(bytes), heard: heard.clone() };
        let (remote, parent) = (self.remote.clone(), before.commit.clone());
        let (branch, message) = (self.branch().to_owned(), self.what.message.to_owned());
        let create_pr = self.what.create_pr;
        let send = move || {
            let request = remote.create_commit().operations(operations).commit_message(message).revision(branch);
            request.create_pr(create_pr).parent_commit(parent).progress(Progress::new(bar)).send()
        };
        match self.hub.patience.of_sending(bytes).wait(&heard, send) {
            Ok(info) => Ok(info),
            Err(trouble) if is_conflict(&trouble) => self.already_there(before, &trouble),
            Err(trouble) => Err(self.told(&trouble)),
        }
    }

    /// Where the branch has moved, that may be this very commit, whose answer was lost on the way.
    fn already_there(&self, before: &Before, trouble: &Trouble) -> anyhow::Result<CommitInfo> {
        let Some(commit) = self.head(self.branch())?.filter(|commit| *commit != before.commit) else {
            return Err(self.told(trouble));
        };
        let now = Before { paths: self.paths(&commit)?, commit: commit.clone() };
        if self.read(&now, SUMS_FILE)?.as_ref() != self.what.files.get(SUMS_FILE) {
            return Err(self.told(trouble));
        }
        output::note("the Hub's answer was lost on the way, but the commit is there");
        Ok(CommitInfo {
            commit_oid: Some(commit),
            commit_url: None,
            commit_message: None,
            commit_description: None,
            pr_url: None,
            pr_num: None,
        })
    }

    fn published(&self, info: CommitInfo) -> anyhow::Result<Published> {
        let id = self.id();
        let commit = match info.commit_oid {
            Some(commit) => commit,
            None => {
                self.head(self.branch())?.ok_or_else(|| anyhow!("the Hub names no commit of {id}; look at it there"))?
            }
        };
        let there = self.paths(&commit);
        // A pull request's commit is on a branch of its own, which not every token may read.
        if info.pr_url.is_none() {
            let there = there?;
            if let Some(missing) = self.what.files.keys().find(|name| !there.contains(name)) {
                bail!("{missing} is not in commit {commit} of {id}, though the Hub took it; publish again");
            }
        }
        Ok(Published {
            url: format!("{}/{id}/tree/{}", self.hub.address, self.branch()),
            reference: format!("hf:{id}@{commit}"),
            pull_request: info.pr_url,
            files: self.what.files.keys().cloned().collect(),
            commit,
        })
    }

    /// One sentence that says what to do; nothing was changed.
    fn told(&self, trouble: &Trouble) -> anyhow::Error {
        let id = self.id();
        let text = match trouble {
            Trouble::Silent(_) => format!("{}; look at whether {id} has the commit, and publish again", unreachable(trouble)),
            Trouble::Hub(answer) => match answer {
                HFError::AuthRequired { .. } => {
                    "the Hub does not accept the token; set HF_TOKEN to a valid one (https://huggingface.co/settings/tokens)".into()
                }
                HFError::Forbidden { .. } => {
                    format!("this token may not write to {id}; use one with write access, or propose the files with --create-pr")
                }
                _ if is_conflict(trouble) => format!(
                    "somebody has changed {} of {id} meanwhile; nothing was sent: look at the change, and publish again",
                    self.branch()
                ),
                HFError::RateLimited { retry_after, .. } => {
                    let pause = retry_after.map_or_else(String::new, |time| format!(" of {} s", time.as_secs()));
                    format!("the Hub asks for a pause{pause}; nothing was sent: publish again later")
                }
                HFError::Request { .. } => format!("{}; nothing was sent: publish again later", unreachable(trouble)),
                HFError::Http { context } if context.status.is_server_error() => format!(
                    "the Hub answers {} to every attempt; nothing was sent: publish again later",
                    context.status.as_u16()
                ),
                other => format!("the Hub's answer cannot be used: {other}"),
            },
        };
        anyhow!("{}", self.token.taken_out(&text))
    }
}

/// Whether the branch is no longer where it was.
fn is_conflict(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Hub(HFError::Conflict { .. }) => true,
        Trouble::Hub(HFError::Http { context }) => context.status.as_u16() == 412,
        _ => false,
    }
}
