//! `hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT][#COLUMN]`, a data set, and `hf:OWNER/NAME[/FILE][@REVISION]`, a model.

use std::fmt;

use crate::exit::Usage;

/// A data set on the Hub, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Whose it is.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// One of several configurations.
    pub configuration: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
    /// `train`, `test`, `validation`, or another.
    pub split: Option<String>,
    /// The pictures' column.
    pub column: Option<String>,
}

/// What every reference begins with.
pub const PREFIX: &str = "hf:";
const FORM: &str = "hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT][#COLUMN]";

impl Reference {
    /// Reads a source that begins with [`PREFIX`].
    pub fn parse(source: &str) -> Result<Self, Usage> {
        let wrong = |why: &str| Usage(format!("{source} is not a data set on the Hub: {why}; write {FORM}"));
        let rest = source.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with hf:"))?;
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
        // A revision becomes part of an address, never of a path.
        let empty = |part: &&Option<String>| part.as_ref().is_some_and(|part| part.is_empty() || part.contains(".."));
        if given.iter().any(empty) {
            return Err(wrong("a part of it is empty or holds '..'"));
        }
        Ok(Self { owner, name, configuration, revision, split, column })
    }

    /// `OWNER/NAME`
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same at a commit.
    #[cfg(feature = "hub")]
    pub fn pinned(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

/// Weights on the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReference {
    /// Whose they are.
    pub owner: String,
    /// The repository's name.
    pub name: String,
    /// One of several files.
    pub file: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
}

const MODEL_FORM: &str = "hf:OWNER/NAME[/FILE][@REVISION]";

impl ModelReference {
    /// Reads a MODEL that begins with [`PREFIX`].
    pub fn parse(model: &str) -> Result<Self, Usage> {
        let wrong = |why: &str| Usage(format!("{model} is not a model on the Hub: {why}; write {MODEL_FORM}"));
        let rest = model.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with hf:"))?;
        let (path, revision) = cut(rest, '@');
        let mut parts = path.splitn(3, '/').map(str::to_owned);
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong("it has no owner")) };
        let file = parts.next();
        if !is_name(&owner) || !is_name(&name) {
            return Err(wrong(NAMES));
        }
        let empty = |part: &&Option<String>| part.as_ref().is_some_and(|part| part.is_empty() || part.contains(".."));
        if [&file, &revision].iter().any(empty) {
            return Err(wrong("a part of it is empty or holds '..'"));
        }
        Ok(Self { owner, name, file, revision })
    }

    /// `OWNER/NAME`
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same at a commit.
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

const NAMES: &str = "owner and name are letters, digits, '-', '_' and '.'";

/// Whether the Hub could have somebody or something of this name.
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
