//! The book: mdBook makes it from the pages in `docs`, after every link in the documentation has been checked.

mod links;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::steps::workspace;

/// Prefix of links to files of the repository that are not pages of the book.
const REPOSITORY: &str = "](https://github.com/equimod/equimod/blob/main/";

/// mdBook's binary as a Python package, with checksums.
const REQUIREMENTS: &str = "xtask/book/requirements.txt";

/// Checks links, and builds the book if mdBook can be installed.
///
/// # Errors
///
/// If a link is dead, or mdBook finds a mistake.
pub fn check() -> anyhow::Result<()> {
    links()?;
    match mdbook()? {
        Some(program) => run(&program),
        None => {
            eprintln!("» book: skipped, because pip cannot install mdBook ({REQUIREMENTS})");
            Ok(())
        }
    }
}

/// Checks links, and builds the book into `target/book/html`.
///
/// # Errors
///
/// If a link is dead, mdBook cannot be installed, or it finds a mistake.
pub fn build() -> anyhow::Result<()> {
    links()?;
    run(&mdbook()?.with_context(|| format!("pip cannot install mdBook from {REQUIREMENTS}; see its message above"))?)
}

fn links() -> anyhow::Result<()> {
    eprintln!("» links of the documentation");
    links::check(&workspace()?)
}

fn run(program: &Path) -> anyhow::Result<()> {
    eprintln!("» mdbook build docs");
    let start = Instant::now();
    let mut command = Command::new(program);
    // This program instead of cargo, which would wait for the end of a build.
    let this = env::current_exe().context("cannot find this program")?;
    command.env("MDBOOK_PREPROCESSOR__REPOSITORY__COMMAND", format!("'{}' book links", this.display()));
    let status = command.args(["build", "docs"]).status().context("cannot start mdbook")?;
    ensure!(status.success(), "mdbook build docs failed, for the reason above");
    eprintln!("  {:.0} s, target/book/html/index.html", start.elapsed().as_secs_f64());
    Ok(())
}

/// mdBook in `target/book/tool`, where pip installs it once; `None` if pip cannot.
fn mdbook() -> anyhow::Result<Option<PathBuf>> {
    let folder = workspace()?.join("target/book/tool");
    let program = folder.join("bin/mdbook");
    if program.exists() {
        return Ok(Some(program));
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action", "ignore"]);
    pip.args(["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", REQUIREMENTS, "--target"]);
    let installed = pip.arg(&folder).stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    Ok((installed && program.exists()).then_some(program))
}

/// mdBook's preprocessor: reads `[context, book]` as JSON from stdin, and writes the book with links to files outside
/// `docs` as links to the repository.
///
/// # Errors
///
/// If the input is not what mdBook writes.
pub fn preprocess() -> anyhow::Result<()> {
    let input: Value = serde_json::from_reader(io::stdin()).context("cannot read the book from mdBook")?;
    let mut book = input.get(1).cloned().context("mdBook has written no book")?;
    link_to_repository(&mut book);
    serde_json::to_writer(io::stdout(), &book).context("cannot write the book to mdBook")
}

/// Changes the text of all chapters in a book.
fn link_to_repository(book: &mut Value) {
    match book {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
            Value::String(text) if name == "content" => *text = text.replace("](../", REPOSITORY),
            other => link_to_repository(other),
        }),
        Value::Array(items) => items.iter_mut().for_each(link_to_repository),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::link_to_repository;
    use serde_json::json;

    #[test]
    fn links_out_of_the_book_lead_to_the_repository() {
        let chapter = |content: &str| json!({ "Chapter": { "content": content, "name": "](../", "sub_items": [] } });
        let mut book = json!({ "items": [chapter("[a](../README.md#b) [c](data.md)"), "Separator"] });
        link_to_repository(&mut book);
        let there = "[a](https://github.com/equimod/equimod/blob/main/README.md#b) [c](data.md)";
        assert_eq!(book, json!({ "items": [chapter(there), "Separator"] }));
    }
}
