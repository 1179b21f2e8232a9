//! Links in Markdown files: their files and anchors have to exist, and every page has to be in the book's summary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The folder of the book, and its table of contents.
const BOOK: &str = "docs";
const SUMMARY: &str = "docs/SUMMARY.md";

/// Checks the Markdown files of the root, `docs` and `examples`.
///
/// # Errors
///
/// If a link is dead, a page is missing in the summary, or a file cannot be read.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let mut pages = BTreeMap::new();
    for folder in ["", BOOK, "examples"] {
        for file in markdown(&root.join(folder))? {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            pages.insert(file, Page::new(&text));
        }
    }
    let problems = problems(root, &pages);
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// Markdown files directly in a folder; none if it does not exist.
fn markdown(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(files)
}

/// One sentence for each problem.
fn problems(root: &Path, pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listed = BTreeSet::from([root.join(SUMMARY)]);
    for (file, page) in pages {
        for (line, target) in &page.links {
            let (path, anchor) = target.split_once('#').map_or((&**target, None), |(path, name)| (path, Some(name)));
            let found = if path.is_empty() { file.clone() } else { joined(file, path) };
            let name = file.strip_prefix(root).unwrap_or(file).display();
            if !found.exists() {
                problems.push(format!("{name}:{line} links to {target}, which does not exist"));
            } else if let Some(anchor) = anchor
                && !pages.get(&found).is_some_and(|page| page.anchors.contains(anchor))
            {
                problems.push(format!("{name}:{line} links to {target}, where no heading has this name"));
            }
            if *file == root.join(SUMMARY) {
                listed.insert(found);
            }
        }
    }
    for file in pages.keys().filter(|file| file.parent() == Some(&root.join(BOOK)) && !listed.contains(*file)) {
        problems.push(format!("{} is missing in {SUMMARY}", file.strip_prefix(root).unwrap_or(file).display()));
    }
    problems
}

/// The path of a link in a file, without `..`.
fn joined(file: &Path, link: &str) -> PathBuf {
    let mut path = file.parent().unwrap_or(file).to_owned();
    for part in link.split('/') {
        match part {
            ".." => drop(path.pop()),
            "." | "" => {}
            name => path.push(name),
        }
    }
    path
}

/// Anchors of the headings in a Markdown file, and its links to other files and headings with their lines.
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<(usize, String)>,
}

impl Page {
    fn new(text: &str) -> Self {
        let mut page = Self { anchors: BTreeSet::new(), links: Vec::new() };
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. })
                    if !dest_url.contains("://") && !dest_url.starts_with("mailto:") =>
                {
                    let line = text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
                    page.links.push((line, dest_url.into_string()));
                }
                _ => {}
            }
        }
        page
    }

    /// Adds the anchor that GitHub and mdBook give to a heading, with a number if an earlier heading has the same.
    fn add_anchor(&mut self, heading: &str) {
        let letter = |letter: char| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ if letter.is_alphanumeric() => Some(letter),
            _ => None,
        };
        let name: String = heading.to_lowercase().chars().filter_map(letter).collect();
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, check};
    use std::fs;

    #[test]
    fn anchors_and_links_of_a_page() {
        let page = Page::new("# A `b` c!\n\n[x](#a-b-c) <https://e.org>\n\n## Same\n## Same\n```\n[no](no.md)\n```\n");
        assert_eq!(page.anchors.into_iter().collect::<Vec<_>>(), ["a-b-c", "same", "same-1"]);
        assert_eq!(page.links, [(3, "#a-b-c".to_owned())]);
    }

    #[test]
    fn dead_links_missing_anchors_and_unlisted_pages_are_found() {
        let root = std::env::temp_dir().join(format!("links-{}", std::process::id()));
        fs::create_dir_all(root.join("docs")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        write("README.md", "# Title\n[page](docs/page.md#part) [web](https://example.org/x.md)\n");
        write("docs/SUMMARY.md", "[page](page.md)\n");
        write("docs/page.md", "# Part\n[up](../README.md#title)\n");
        check(&root).unwrap();
        write("docs/other.md", "[a](../gone.md)\n\n[b](page.md#gone) ![c](#gone)\n");
        let error = check(&root).unwrap_err().to_string();
        fs::remove_dir_all(&root).unwrap();
        let lines: Vec<&str> = error.lines().collect();
        let expected = [
            "docs/other.md:1 links to ../gone.md, which does not exist",
            "docs/other.md:3 links to page.md#gone, where no heading has this name",
            "docs/other.md:3 links to #gone, where no heading has this name",
            "docs/other.md is missing in docs/SUMMARY.md",
        ];
        assert_eq!(lines, expected);
    }
}
