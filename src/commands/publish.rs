//! `equimod publish`.

use std::path::Path;
use std::process::ExitCode;

use equimod_core::model::CONFIG_FILE;
use serde_json::json;

use crate::artifact::{CARD_FILE, Files};
use crate::card::{self, is_edited};
use crate::cli::Publish;
use crate::export::hub_results;
use crate::export::sums::{self, SUMS_FILE};
use crate::export::verify::loads;
use crate::hub::{self, Publication};
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::reference::ModelReference;

/// Publishes an export on the Hub.
///
/// # Errors
///
/// If the folder is not a valid export, contains a secret, or cannot be published.
pub fn run(arguments: &Publish) -> anyhow::Result<ExitCode> {
    check_order(&arguments.folder, arguments.repo())?;
    let (owner, name) = repository(arguments.repo())?;
    let branch = arguments.revision.as_deref().filter(|branch| *branch != "main");
    if let Some(branch) = branch.filter(|branch| !is_branch(branch)) {
        return Err(Usage(format!("--revision {branch:?} is not a valid branch name")).into());
    }
    let mut files = sums::read(&arguments.folder)?;
    loads(&arguments.folder)?;
    hub_results::name_source(&mut files, arguments.repo());
    files.insert(SUMS_FILE.into(), sums::of(&files).into_bytes());
    if !is_edited(&files[CARD_FILE]) {
        // Render the card again, so that its code snippets name the repository.
        files.insert(CARD_FILE.into(), card::render(&files, Some(arguments.repo()), branch)?.into_bytes());
    }
    report_others(arguments, &files)?;
    let publication = Publication {
        owner,
        name,
        files: &files,
        private: arguments.private,
        create_pr: arguments.create_pr,
        revision: arguments.revision.as_deref(),
        force_card: arguments.force_card,
        message: arguments.message.as_deref().unwrap_or("Publish weights, card and results with equimod"),
    };
    hub::check(&publication)?;
    if arguments.dry_run {
        return dry_run(arguments, &files);
    }
    let published = hub::publish(&publication)?;
    if arguments.json {
        console::json(&json!({
            "repository": arguments.repo(), "commit": published.commit, "url": published.url,
            "pull_request": published.pull_request, "model": published.reference, "files": published.files,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{} files, {}\n", published.files.len(), published.url);
    match &published.pull_request {
        Some(address) => text += &format!("pull request {address}\n"),
        None => text += &format!("load it as {}\n", published.reference),
    }
    console::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks that the repository was not given before the folder.
fn check_order(folder: &Path, repo: &str) -> Result<(), Usage> {
    if !folder.exists() && Path::new(repo).join(CONFIG_FILE).is_file() {
        let folder = folder.display();
        return Err(Usage(format!("the export comes before the repository: equimod publish {repo} {folder}")));
    }
    Ok(())
}

fn repository(text: &str) -> Result<(&str, &str), Usage> {
    let wrong = || Usage(format!("{text} is not a repository of the Hub; use OWNER/NAME"));
    let reference = ModelReference::parse(&format!("hf:{text}")).map_err(|_| wrong())?;
    match (text.split_once('/'), reference.file, reference.revision) {
        (Some(parts), None, None) => Ok(parts),
        _ => Err(wrong()),
    }
}

/// Whether `name` is a valid name of a Git branch.
fn is_branch(name: &str) -> bool {
    let fine = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
    };
    let known = |c: char| c.is_alphanumeric() || "/-_.+=,".contains(c);
    name.chars().all(known) && !name.contains("..") && name.split('/').all(fine)
}

/// Reports files in the folder that are not part of the export.
fn report_others(arguments: &Publish, files: &Files) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(&arguments.folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let within = format!("{name}/");
        if !files.keys().any(|file| *file == name || file.starts_with(&within)) {
            console::note(&format!("skipped: {name}, which is not listed in {SUMS_FILE}"));
        }
    }
    Ok(())
}

fn dry_run(arguments: &Publish, files: &Files) -> anyhow::Result<ExitCode> {
    let sizes = files.iter().map(|(name, bytes)| (name.as_str(), bytes.len()));
    if arguments.json {
        let files: Vec<_> = sizes.map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        console::json(&json!({ "repository": arguments.repo(), "files": files, "dry_run": true }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let branch = arguments.revision.as_deref().unwrap_or("main");
    let target = if arguments.create_pr { "a pull request to" } else { "one commit to" };
    let mut text = format!("would publish in {target} {branch} of {}\n", arguments.repo());
    sizes.for_each(|(name, bytes)| text += &format!("  {name}  {bytes} bytes\n"));
    text += "nothing was published";
    console::result(&text)?;
    Ok(ExitCode::SUCCESS)
}
