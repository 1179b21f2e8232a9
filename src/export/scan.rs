//! Search for content that must not be published: secrets and absolute paths.

use std::fmt::Write;
use std::sync::LazyLock;

use anyhow::bail;
use regex::bytes::Regex as BytesRegex;
use regex::{Captures, Match, NoExpand, Regex};
use serde_json::Value;

use crate::artifact::{Files, dashed};
use crate::reference::PREFIX;

/// Patterns of common secrets, each with its description.
const SECRETS: [(&str, &str); 13] = [
    ("a token of the Hugging Face Hub", r"\bhf_[A-Za-z0-9]{30,}"),
    ("a token of the Hugging Face Hub", r"\bapi_org_[A-Za-z0-9]{30,}"),
    ("a key of Amazon Web Services", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a token of GitHub", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    ("a token of GitLab", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a key of OpenAI or Anthropic", r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}"),
    ("a key of Google", r"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("a token of Slack", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    ("a token of PyPI", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    ("a secret key", r#"(?i)(?:secret|private|api)_?(?:access_?)?key\b["']?\s*[=:]\s*["']?[A-Za-z0-9/+_-]{16,}"#),
    ("a signed token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("a password in an address", r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/:@]+@"),
];

/// Absolute paths: anything between two quotes of a kind; otherwise Unix, Windows (also UNC), home and `file:` paths.
const PATH: &str = concat!(
    r#""((?:file://|~?/|[A-Za-z]:\\|\\\\)[^"'\n]*?[/\\][^"'\n]*)""#,
    r#"|'((?:file://|~?/|[A-Za-z]:\\|\\\\)[^"'\n]*?[/\\][^"'\n]*)'"#,
    r#"|(?:^|[^\w/.:<>~-])"#,
    r#"((?:file://[\w.@+-]*|~|/[\w.@+-]+|[A-Za-z]:\\[\w.@+-]+|\\\\[\w.@+-]+)(?:[/\\][\w.@+-]+)+[/\\]?)"#
);

#[allow(clippy::expect_used)] // The patterns are constants; the tests compile all of them.
static PATHS: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("(?m){PATH}")).expect("a pattern that compiles"));

/// Relative paths through a parent folder, outside of addresses.
#[allow(clippy::expect_used)]
static PARENTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)(^|[^\w/.])(?:\.\./)+(?:[\w.@+-]+/)*([\w.@+-]+)").expect("a pattern that compiles")
});

#[allow(clippy::expect_used)]
static SECRET: LazyLock<Vec<(&str, BytesRegex)>> = LazyLock::new(|| {
    let compiled = |(what, pattern): &(&'static str, &str)| {
        (*what, BytesRegex::new(&format!("(?-u){pattern}")).expect("a pattern that compiles"))
    };
    SECRETS.iter().map(compiled).collect()
});

/// The text with absolute paths, and relative ones through a parent folder, shortened to their last part.
pub fn without_paths(text: &str) -> String {
    let last = |captures: &Captures| {
        let (whole, path) = (captures.get_match(), path(captures));
        let Some(path) = path else { return whole.as_str().to_owned() };
        let (before, after) = (&text[whole.start()..path.start()], &text[path.end()..whole.end()]);
        format!("{before}{}{after}", last_part(path.as_str()))
    };
    PARENTS.replace_all(&PATHS.replace_all(text, last), "$1$2").into_owned()
}

/// The matched path, without what is around it.
fn path<'a>(captures: &Captures<'a>) -> Option<Match<'a>> {
    (1..captures.len()).find_map(|group| captures.get(group))
}

/// Last component of a path.
pub fn last_part(path: &str) -> &str {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default()
}

/// Paths that are known to be local, and are cut wherever they stand, whatever characters they have.
#[derive(Debug, Default)]
pub struct LocalPaths(Vec<LocalPath>);

/// A path, and its last part that stands in its place.
#[derive(Debug, PartialEq, Eq)]
struct LocalPath {
    path: String,
    last: String,
}

impl LocalPaths {
    /// Adds the paths among arguments and settings `name=path`; addresses and names on the Hub are none.
    pub fn add<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let value = |text: &'a str| match text.split_once('=') {
            Some((name, value)) if !name.contains(['/', '\\']) => value,
            _ => text,
        };
        let bare = |text: &'a str| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let paths = texts.into_iter().map(|text| bare(value(text)).trim_end_matches(['/', '\\']));
        let is_remote = |path: &str| path.starts_with(PREFIX) || path.contains("://") && !path.starts_with("file:");
        let local = paths.filter(|path| !is_remote(path) && last_part(path) != *path);
        // As they stand in a text, and as in a string of JSON or TOML.
        let escaped = |text: &str| {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        self.0.extend(local.flat_map(|path| {
            let last = last_part(path);
            let raw = LocalPath { path: path.to_owned(), last: last.to_owned() };
            [raw, LocalPath { path: escaped(path), last: escaped(last) }]
        }));
        self.0.sort_by_key(|one| std::cmp::Reverse(one.path.len()));
        self.0.dedup();
    }

    /// The text with these paths, and with all others that are recognized, shortened to their last part.
    pub fn cut(&self, text: &str) -> String {
        let cut = |text: String, LocalPath { path, last }: &LocalPath| {
            let Ok(found) = Regex::new(&format!(r"(^|[^\w/.:~-]){}\b{{end-half}}", regex::escape(path))) else {
                return text;
            };
            found.replace_all(&text, |before: &Captures| format!("{}{last}", &before[1])).into_owned()
        };
        self.cut_names(&without_paths(&self.0.iter().fold(text.to_owned(), cut)))
    }

    /// The text with these paths as parts of the names of evaluations, `knn-home-me-birds`, shortened as well.
    pub fn cut_names(&self, text: &str) -> String {
        let cut = |text: String, LocalPath { path, last }: &LocalPath| {
            let (whole, last) = (dashed(path), dashed(last));
            let Ok(found) = Regex::new(&format!(r"-{}\b{{end-half}}", regex::escape(&whole))) else { return text };
            if whole == last { text } else { found.replace_all(&text, NoExpand(&format!("-{last}"))).into_owned() }
        };
        self.0.iter().fold(text.to_owned(), cut)
    }

    /// A JSON value with all its texts [`cut`](Self::cut).
    pub fn cut_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.cut(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.cut_value(value)).collect(),
            Value::Object(entries) => entries.into_iter().map(|(name, value)| (name, self.cut_value(value))).collect(),
            other => other,
        }
    }
}

/// Refuses files that contain a secret or an absolute path; `is_token` detects the user's own token.
///
/// # Errors
///
/// If there is any; the message lists all places.
pub fn check(files: &Files, is_token: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
    let mut findings = String::new();
    for (name, bytes) in files {
        if is_token(bytes) {
            // Writing to a string does not fail.
            let _ = write!(findings, "\n  {name}: your own token");
        }
        for (what, pattern) in SECRET.iter() {
            if let Some(place) = pattern.find(bytes) {
                let _ = write!(findings, "\n  {name}, line {}: {what}", line(bytes, place.start()));
            }
        }
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Some(path) = PATHS.captures(text).and_then(|captures| path(&captures))
        {
            let _ = write!(findings, "\n  {name}, line {}: the path {}", line(bytes, path.start()), path.as_str());
        }
    }
    match findings.is_empty() {
        true => Ok(()),
        false => bail!("nothing is published, because these would become public; remove them first:{findings}"),
    }
}

fn line(bytes: &[u8], place: usize) -> usize {
    1 + bytes[..place].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> anyhow::Result<()> {
        check(&Files::from([("file".to_owned(), text.as_bytes().to_vec())]), |bytes| bytes == b"mine")
    }

    #[test]
    fn secrets_and_paths_are_found_where_they_are() {
        let long = |start: &str, count: usize| format!("{start}{}", "aB3".repeat(count));
        for secret in [
            long("hf_", 12),
            long("api_org_", 12),
            "AKIAIOSFODNN7EXAMPLE".into(),
            long("ghp_", 13),
            long("github_pat_", 22),
            long("glpat-", 8),
            long("sk-proj-", 12),
            format!("AIza{}", "a".repeat(35)),
            "xoxb-1234567890".into(),
            long("pypi-", 20),
            "-----BEGIN OPENSSH PRIVATE KEY-----".into(),
            "https://me:pass@example.org".into(),
            "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            format!("eyJ{0}.eyJ{0}.{0}", "aB3dEf6hIj"),
        ] {
            let message = scanned(&format!("first\ntoken = \"{secret}\"\n")).unwrap_err().to_string();
            assert!(message.contains("file, line 2: a "), "{secret}: {message}");
            assert!(!message.contains(&secret), "{message}");
        }
        for path in [
            "/home/me/birds",
            "\"/mnt/data/x.png\"",
            "~/birds/train",
            r"C:\Users\me\birds",
            "(/opt/a/b)",
            "file:///home/x/y",
            r"\\server\share\x",
        ] {
            let message = scanned(&format!("a\nb\nc {path}")).unwrap_err().to_string();
            assert!(message.contains("line 3: the path"), "{path}: {message}");
        }
        assert!(scanned("mine").is_err());
        let fine = "hf:lab/net https://huggingface.co/a/b 1/2 and/or eval/knn-emoji/results.json </details> // a b: /x";
        scanned(fine).unwrap();
    }

    #[test]
    fn paths_are_shortened_to_their_last_part() {
        for (text, cut) in [
            ("source = \"/home/me/data/birds\"", "source = \"birds\""),
            ("/usr/local/bin/equimod pretrain --out /scratch/me/run/", "equimod pretrain --out run"),
            ("~/a/b.toml", "b.toml"),
            ("data = \"/data/a b/pics dir\", 'x y'", "data = \"pics dir\", 'x y'"),
            ("[\"/bin/x\", \"--data\", \"out/y\"]", "[\"x\", \"--data\", \"out/y\"]"),
            ("hf:lab/net", "hf:lab/net"),
            ("source = \"../../data/birds\"", "source = \"birds\""),
            ("equimod pretrain ../birds --out ../out/a", "equimod pretrain birds --out a"),
            ("https://example.org/a/../b", "https://example.org/a/../b"),
            ("out/a/checkpoints", "out/a/checkpoints"),
            (
                "about = '/a/my.toml with data.source=\"/b c/birds\", x=1'",
                "about = 'my.toml with data.source=\"birds\", x=1'",
            ),
            ("['/a/b', '/c/d']", "['b', 'd']"),
        ] {
            assert_eq!(without_paths(text), cut);
            scanned(&cut.replace("../", "")).unwrap();
        }
    }

    #[test]
    fn known_paths_are_cut_with_all_their_characters() {
        let mut paths = LocalPaths::default();
        let given =
            ["--data=/a/Jane Doe/it's, mine/im", "probe.data=\"/a/Jane Doe\"", "/r/my secret/q.toml", "hf:a/b", "/x"];
        paths.add(["s/a \"b\""]);
        let value = serde_json::json!({ "data": ["s/a \"b\""], "value": 0.5 });
        assert_eq!(paths.cut_value(value), serde_json::json!({ "data": ["a \"b\""], "value": 0.5 }));
        paths.add(given);
        for (text, cut) in [
            ("\"350 images of /a/Jane Doe/it's, mine/im with x=1\"", "\"350 images of im with x=1\""),
            ("/r/my secret/q.toml with probe.data=\"/a/Jane Doe\"", "q.toml with probe.data=\"Jane Doe\""),
            ("[\"--data=/a/Jane Doe/it's, mine/im\", \"/x\", \"out/x\"]", "[\"--data=im\", \"x\", \"out/x\"]"),
            ("knn-a-Jane-Doe-it-s--mine-im-test-r-my-secret-q-toml", "knn-im-test-q-toml"),
            ("/a/Jane Does", "Jane Does"),
            ("source = \"s/a \\\"b\\\"\"", "source = \"a \\\"b\\\"\""),
        ] {
            assert_eq!(paths.cut(text), cut);
        }
    }

    #[test]
    fn arguments_are_shortened_to_their_last_part() {
        for (argument, cut) in [
            ("/usr/bin/equimod", "equimod"),
            ("--data=/home/me/birds", "--data=birds"),
            ("probe.data=/home/me/birds", "probe.data=birds"),
            ("data.source=\"../a/birds\"", "data.source=\"birds\""),
            (r"--out=C:\runs\a", "--out=a"),
            ("--out", "--out"),
            ("out/a=b", "a=b"),
            ("my data/birds/", "birds/"),
            ("https://example.org/a", "https://example.org/a"),
            ("schedule.epochs=3", "schedule.epochs=3"),
            ("hf:lab/net", "hf:lab/net"),
        ] {
            let mut paths = LocalPaths::default();
            paths.add([argument]);
            assert_eq!(paths.cut(argument), cut);
        }
    }
}
