//! Publishing an export as one commit on the Hub.

use anyhow::{anyhow, bail};
use hf_hub::progress::Progress;
use hf_hub::repository::{CommitInfo, CommitOperation, RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFError, HFRepositorySync};

use super::client::Hub;
use super::repository::{Kind, MAIN, TransferBar, unreachable};
use super::timeout::{LastActivity, RequestError};
use super::token::Token;
use super::{Publication, Published};
use crate::artifact::CARD_FILE;
use crate::card::is_edited;
use crate::export::sums::{self, SUMS_FILE};
use crate::outputs::console::{self, Count};

type Remote = HFRepositorySync<RepoTypeModel>;

/// Publishes one export to one repository.
struct Publisher<'a> {
    hub: Hub,
    remote: Remote,
    token: Token,
    publication: &'a Publication<'a>,
}

/// State of the target branch before the commit.
struct BranchState {
    commit: String,
    paths: Vec<String>,
}

/// Publishes all files in one commit on top of the target branch.
///
/// # Errors
///
/// If there is no valid token, or the Hub refuses the commit or cannot be reached.
pub fn publish(publication: &Publication) -> anyhow::Result<Published> {
    let Some(token) = Token::of_environment() else {
        bail!(
            "publishing needs a token of the Hub; \
             create one with write access at https://huggingface.co/settings/tokens, and set HF_TOKEN to it"
        );
    };
    let hub = Hub::with_token(&token)?;
    if hub.offline {
        bail!("HF_HUB_OFFLINE is set; unset it to publish");
    }
    let remote = hub.client.model(publication.owner, publication.name);
    let publisher = Publisher { hub, remote, token, publication };
    let before = publisher.branch_state()?;
    let operations = publisher.operations(&before)?;
    let info = publisher.commit(&before, operations)?;
    publisher.published(info)
}

impl Publisher<'_> {
    fn id(&self) -> String {
        format!("{}/{}", self.publication.owner, self.publication.name)
    }

    fn branch(&self) -> &str {
        self.publication.revision.unwrap_or(MAIN)
    }

    /// Sends a short request to the repository.
    fn request<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Remote) -> Result<T, HFError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let remote = self.remote.clone();
        self.hub.timeout.run(&LastActivity::now(), move || call(&remote))
    }

    /// The head of the target branch; creates the repository and the branch if they do not exist.
    fn branch_state(&self) -> anyhow::Result<BranchState> {
        let commit = match self.head(MAIN)? {
            Some(commit) => commit,
            None => {
                if self.publication.create_pr {
                    bail!(
                        "there is no repository {} for a pull request; leave out --create-pr to create it",
                        self.id()
                    );
                }
                self.create()?;
                let missing = || anyhow!("the Hub created {} but reports no commit of it; try again", self.id());
                self.head(MAIN)?.ok_or_else(missing)?
            }
        };
        let commit = match self.publication.revision.filter(|branch| *branch != MAIN) {
            None => commit,
            Some(branch) => match self.head(branch)? {
                Some(commit) => commit,
                None => {
                    let (name, start) = (branch.to_owned(), commit.clone());
                    self.request(move |remote| remote.create_branch().branch(&name).revision(start).send())
                        .map_err(|error| self.describe(&error))?;
                    console::note(&format!("created the branch {branch} of {}", self.id()));
                    commit
                }
            },
        };
        Ok(BranchState { paths: self.paths(&commit)?, commit })
    }

    fn create(&self) -> anyhow::Result<()> {
        let (client, id, private) = (self.hub.client.clone(), self.id(), self.publication.private);
        let create = move || {
            client.create_repository().repo_id(&id).repo_type(RepoTypeModel).private(private).exist_ok(true).send()
        };
        self.hub.timeout.run(&LastActivity::now(), create).map_err(|error| self.describe(&error))?;
        let visible = if self.publication.private { "private" } else { "public" };
        console::note(&format!("created the {visible} repository {}", self.id()));
        Ok(())
    }

    /// The head commit of a branch, if the branch exists.
    fn head(&self, branch: &str) -> anyhow::Result<Option<String>> {
        let asked = branch.to_owned();
        match self.request(move |remote| RepoTypeModel::commit(remote, &asked)) {
            Ok(commit) => Ok(commit),
            Err(RequestError::Hub(HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. })) => Ok(None),
            Err(error) => Err(self.describe(&error)),
        }
    }

    fn paths(&self, commit: &str) -> anyhow::Result<Vec<String>> {
        let commit = commit.to_owned();
        let tree = self.request(move |remote| remote.list_tree().revision(commit).recursive(true).send());
        let path = |entry| match entry {
            RepoTreeEntry::File { path, .. } => Some(path),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(tree.map_err(|error| self.describe(&error))?.into_iter().filter_map(path).collect())
    }

    /// Content of a small file of the repository, if it exists.
    fn read(&self, before: &BranchState, path: &'static str) -> anyhow::Result<Option<Vec<u8>>> {
        if !before.paths.iter().any(|known| known == path) {
            return Ok(None);
        }
        let commit = before.commit.clone();
        let bytes = self.request(move |remote| remote.download_file_to_bytes().filename(path).revision(commit).send());
        Ok(Some(bytes.map_err(|error| self.describe(&error))?.to_vec()))
    }

    /// Uploads of all files, except a card that was edited by hand, and deletions of an earlier export's files that
    /// this export lacks.
    fn operations(&self, before: &BranchState) -> anyhow::Result<Vec<CommitOperation>> {
        let card = self.read(before, CARD_FILE)?;
        let kept = !self.publication.force_card
            && card.is_some_and(|card| is_edited(&card) && self.publication.files.get(CARD_FILE) != Some(&card));
        if kept {
            console::note(&format!(
                "keeping {CARD_FILE} of {}, which was edited by hand; --force-card overwrites it",
                self.id()
            ));
        }
        let sent = self.publication.files.iter().filter(|(name, _)| !kept || name.as_str() != CARD_FILE);
        let mut operations: Vec<CommitOperation> =
            sent.map(|(name, bytes)| CommitOperation::add_bytes(name.clone(), bytes.clone())).collect();
        if let Some(earlier) = self.read(before, SUMS_FILE)? {
            let earlier = String::from_utf8_lossy(&earlier).into_owned();
            for (name, _) in sums::parse(&earlier) {
                if !self.publication.files.contains_key(name) && before.paths.iter().any(|path| path == name) {
                    console::note(&format!("deleting {name}, which is not in this export"));
                    operations.push(CommitOperation::delete(name));
                }
            }
        }
        Ok(operations)
    }

    /// Sends one commit on top of `before`; the Hub applies all of it or nothing.
    fn commit(&self, before: &BranchState, operations: Vec<CommitOperation>) -> anyhow::Result<CommitInfo> {
        let bytes: u64 = self.publication.files.values().map(|bytes| bytes.len() as u64).sum();
        console::note(&format!("uploading {} files to {}, {:.1} MB", operations.len(), self.id(), bytes as f64 / 1e6));
        let activity = LastActivity::now();
        let bar = TransferBar { count: Count::of_bytes(bytes), activity: activity.clone() };
        let (remote, parent) = (self.remote.clone(), before.commit.clone());
        let (branch, message) = (self.branch().to_owned(), self.publication.message.to_owned());
        let create_pr = self.publication.create_pr;
        let send = move || {
            let request = remote.create_commit().operations(operations).commit_message(message).revision(branch);
            request.create_pr(create_pr).parent_commit(parent).progress(Progress::new(bar)).send()
        };
        match self.hub.timeout.for_upload(bytes).run(&activity, send) {
            Ok(info) => Ok(info),
            Err(error) if is_conflict(&error) => self.find_own_commit(before, &error),
            Err(error) => Err(self.describe(&error)),
        }
    }

    /// After a conflict, checks whether the new head is this very commit, whose answer was lost.
    fn find_own_commit(&self, before: &BranchState, error: &RequestError) -> anyhow::Result<CommitInfo> {
        let Some(commit) = self.head(self.branch())?.filter(|commit| *commit != before.commit) else {
            return Err(self.describe(error));
        };
        let now = BranchState { paths: self.paths(&commit)?, commit: commit.clone() };
        if self.read(&now, SUMS_FILE)?.as_ref() != self.publication.files.get(SUMS_FILE) {
            return Err(self.describe(error));
        }
        console::note("the Hub's answer was lost, but the commit arrived");
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
                self.head(self.branch())?.ok_or_else(|| anyhow!("the Hub reports no commit of {id}; check its page"))?
            }
        };
        let there = self.paths(&commit);
        // The commit of a pull request is on a branch of its own, which some tokens may not read.
        if info.pr_url.is_none() {
            let there = there?;
            if let Some(missing) = self.publication.files.keys().find(|name| !there.contains(name)) {
                bail!("{missing} is missing from commit {commit} of {id}, although the Hub accepted it; publish again");
            }
        }
        Ok(Published {
            url: format!("{}/{id}/tree/{}", self.hub.address, self.branch()),
            reference: format!("hf:{id}@{commit}"),
            pull_request: info.pr_url,
            files: self.publication.files.keys().cloned().collect(),
            commit,
        })
    }

    /// Error message that says what to do.
    fn describe(&self, error: &RequestError) -> anyhow::Error {
        let id = self.id();
        let text = match error {
            RequestError::TimedOut(_) => {
                format!("{}; check whether {id} has the commit, and publish again", unreachable(error))
            }
            RequestError::Hub(answer) => match answer {
                HFError::AuthRequired { .. } => "the Hub does not accept the token; \
                     set HF_TOKEN to a valid one (https://huggingface.co/settings/tokens)"
                    .into(),
                HFError::Forbidden { .. } => {
                    format!(
                        "the token may not write to {id}; use one with write access, \
                         or open a pull request with --create-pr"
                    )
                }
                _ if is_conflict(error) => format!(
                    "{} of {id} was changed in the meantime; nothing was published: \
                     check the change, and publish again",
                    self.branch()
                ),
                HFError::RateLimited { retry_after, .. } => {
                    let pause = retry_after.map_or_else(String::new, |time| format!(" of {} s", time.as_secs()));
                    format!("the Hub limits the rate of requests{pause}; nothing was published: try again later")
                }
                HFError::Request { .. } => format!("{}; nothing was published: try again later", unreachable(error)),
                HFError::Http { context } if context.status.is_server_error() => format!(
                    "the Hub answered every attempt with status {}; nothing was published: try again later",
                    context.status.as_u16()
                ),
                other => format!("the Hub failed: {other}"),
            },
        };
        anyhow!("{}", self.token.redact(&text))
    }
}

/// Whether the branch has moved since its state was read.
fn is_conflict(error: &RequestError) -> bool {
    match error {
        RequestError::Hub(HFError::Conflict { .. }) => true,
        RequestError::Hub(HFError::Http { context }) => context.status.as_u16() == 412,
        _ => false,
    }
}
