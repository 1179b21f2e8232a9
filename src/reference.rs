//! References to the Hub: `hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT][#COLUMN]` for a data set, and
//! `hf:OWNER/NAME[/FILE][@REVISION]` for a model.

use std::fmt;

use crate::process::exit::Usage;

/// Reference to a data set on the Hub, or to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Owner of the repository.
    pub owner: String,
    /// Name of the repository.
    pub name: String,
    /// Configuration, if the data set has several.
    pub configuration: Option<String>,
    /// Branch, tag or commit.
    pub revision: Option<String>,
    /// Split: `train`, `test`, `validation` or another name.
    pub split: Option<String>,
    /// Column of the images.
    pub column: Option<String>,
}

/// Prefix of every reference.
pub const PREFIX: &str = "hf:";
/// Length of a commit's hash, and of the part of it that texts show.
const COMMIT: usize = 40;
const SHOWN: usize = 7;

/// A source for readers: the commit of one on the Hub is cut to its first digits.
pub fn shown(source: &str) -> String {
    let Some(place) = source.find('@').filter(|_| source.starts_with(PREFIX)) else { return source.to_owned() };
    let digits = source[place + 1..].bytes().take_while(u8::is_ascii_hexdigit).count();
    if digits < COMMIT {
        return source.to_owned();
    }
    format!("{}{}", &source[..place + 1 + SHOWN], &source[place + 1 + digits..])
}

const FORM: &str = "hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT][#COLUMN]";

impl Reference {
    /// Parses a data source that starts with [`PREFIX`].
    ///
    /// # Errors
    ///
    /// If it is not of the form above.
    pub fn parse(source: &str) -> Result<Self, Usage> {
        let wrong = |why: &str| Usage(format!("{source} is not a data set on the Hub: {why}; the form is {FORM}"));
        let rest = source.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not start with hf:"))?;
        let (rest, column) = cut(rest, '#');
        let (rest, split) = cut(rest, ':');
        let (path, revision) = cut(rest, '@');
        let mut parts = path.split('/').map(str::to_owned);
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong("it has no owner")) };
        let configuration = parts.next();
        if !is_name(&owner) || !is_name(&name) || parts.next().is_some() {
            return Err(wrong(NAMES));
        }
        let given = [&configuration, &revision, &split, &column];
        // A revision becomes part of a URL, never of a file path.
        let empty = |part: &&Option<String>| part.as_ref().is_some_and(|part| part.is_empty() || part.contains(".."));
        if given.iter().any(empty) {
            return Err(wrong("a part of it is empty or contains '..'"));
        }
        Ok(Self { owner, name, configuration, revision, split, column })
    }

    /// The id of the repository, `OWNER/NAME`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same reference at a commit.
    #[cfg(feature = "hub")]
    pub fn pinned(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

/// Reference to weights on the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReference {
    /// Owner of the repository.
    pub owner: String,
    /// Name of the repository.
    pub name: String,
    /// File in the repository, if it has several files of weights.
    pub file: Option<String>,
    /// Branch, tag or commit.
    pub revision: Option<String>,
}

const MODEL_FORM: &str = "hf:OWNER/NAME[/FILE][@REVISION]";

impl ModelReference {
    /// Parses a MODEL that starts with [`PREFIX`].
    ///
    /// # Errors
    ///
    /// If it is not of the form above.
    pub fn parse(model: &str) -> Result<Self, Usage> {
        let wrong = |why: &str| Usage(format!("{model} is not a model on the Hub: {why}; the form is {MODEL_FORM}"));
        let rest = model.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not start with hf:"))?;
        let (path, revision) = cut(rest, '@');
        let mut parts = path.splitn(3, '/').map(str::to_owned);
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong("it has no owner")) };
        let file = parts.next();
        if !is_name(&owner) || !is_name(&name) {
            return Err(wrong(NAMES));
        }
        let empty = |part: &&Option<String>| part.as_ref().is_some_and(|part| part.is_empty() || part.contains(".."));
        if [&file, &revision].iter().any(empty) {
            return Err(wrong("a part of it is empty or contains '..'"));
        }
        Ok(Self { owner, name, file, revision })
    }

    /// The id of the repository, `OWNER/NAME`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same reference at a commit.
    #[cfg(feature = "hub")]
    pub fn pinned(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.id())?;
        let parts = [(&self.file, '/'), (&self.revision, '@')];
        parts.iter().filter_map(|(part, mark)| Some((part.as_ref()?, mark))).try_for_each(|(p, m)| write!(f, "{m}{p}"))
    }
}

const NAMES: &str = "owner and name may contain letters, digits, '-', '_' and '.'";

/// Whether `name` is a valid name of an owner or a repository.
fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(known)
}

fn cut(text: &str, mark: char) -> (&str, Option<String>) {
    match text.split_once(mark) {
        Some((before, after)) => (before, Some(after.to_owned())),
        None => (text, None),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.id())?;
        let parts = [(&self.configuration, '/'), (&self.revision, '@'), (&self.split, ':'), (&self.column, '#')];
        parts.iter().filter_map(|(part, mark)| Some((part.as_ref()?, mark))).try_for_each(|(p, m)| write!(f, "{m}{p}"))
    }
}

/// The name of a source without a slash at its end, with which shells complete folders.
pub fn plain_name(source: &str) -> &str {
    match source.trim_end_matches('/') {
        "" => source,
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_and_write() {
        for text in [
            "hf:uoft-cs/cifar10",
            "hf:a/b/c",
            "hf:a/b@v1.0",
            "hf:a/b@refs/convert/parquet:validation",
            "hf:a/b/plain_text@main:train#img",
            "hf:a/b#photo",
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
        let full = Reference::parse("hf:a/b/c@d:e#f").unwrap();
        assert_eq!((full.configuration.as_deref(), full.revision.as_deref()), (Some("c"), Some("d")));
        assert_eq!((full.split.as_deref(), full.column.as_deref()), (Some("e"), Some("f")));
        for bad in
            ["hf:", "hf:cifar10", "hf:/b", "hf:a/", "hf:a/b/c/d", "hf:../x", "hf:a/b@", "hf:a/b@x/../y", "hf:a b/c"]
        {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn readers_see_the_start_of_a_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(shown(&format!("hf:lab/birds@{commit}:train#image")), "hf:lab/birds@0123456:train#image");
        for other in ["hf:lab/birds@main", "hf:lab/birds", &format!("images@{commit}")] {
            assert_eq!(shown(other), other);
        }
    }

    #[test]
    fn models_read_and_write() {
        for text in ["hf:a/b", "hf:timm/resnet18.a1_in1k@v1", "hf:a/b/folder/weights.pth@refs/pr/1"] {
            assert_eq!(ModelReference::parse(text).unwrap().to_string(), text);
        }
        let full = ModelReference::parse("hf:a/b/c/d.bin@e").unwrap();
        assert_eq!((full.file.as_deref(), full.revision.as_deref()), (Some("c/d.bin"), Some("e")));
        for bad in ["a/b", "hf:a", "hf:a/b/", "hf:a/b@", "hf:a/../c", "hf:a/b/../c", "hf:-/ "] {
            assert!(ModelReference::parse(bad).is_err(), "{bad}");
        }
    }
}
