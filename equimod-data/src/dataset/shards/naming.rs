//! Division of the names of a shard's members into the key of a sample and a suffix.

use std::collections::BTreeMap;
use std::path::Path;

use crate::dataset::folder::ENDINGS;
use crate::dataset::values::listed;

/// Number of suffixes that an error lists.
const LISTED: usize = 6;

/// Rule for which members are images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// Members `KEY.SUFFIX` with the suffix of an image; the key ends at the first dot, as in the webdataset library.
    Plain,
    /// Members with exactly this text after the first dot, such as `input.jpg`.
    Only(String),
    /// Members with the suffix of an image; the key ends at the last dot.
    LastDot,
}

impl Naming {
    /// Key of a member, with its folders, and its suffix in lower case. Of `7.jpg` and `7.mask.png`, only the first is
    /// an image unless the other is requested.
    pub fn split(&self, path: &Path) -> (String, String) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = if *self == Self::LastDot { name.rsplit_once('.') } else { name.split_once('.') };
        let (stem, ending) = parts.unwrap_or((&name, ""));
        (path.with_file_name(stem).to_string_lossy().into_owned(), ending.to_lowercase())
    }

    /// Whether members with this suffix are images.
    pub fn is_image(&self, ending: &str) -> bool {
        match self {
            Self::Only(only) => ending == only,
            Self::Plain | Self::LastDot => ENDINGS.contains(&ending),
        }
    }

    /// Naming of a shard's members, by the number of members with each suffix after the first dot; `None` if none is an
    /// image.
    pub fn guess(endings: &BTreeMap<String, usize>) -> Result<Option<Self>, String> {
        if endings.keys().any(|ending| ENDINGS.contains(&ending.as_str())) {
            return Ok(Some(Self::Plain));
        }
        let last = |ending: &str| ending.rsplit_once('.').is_some_and(|(_, last)| ENDINGS.contains(&last));
        let longer: Vec<(&String, &usize)> = endings.iter().filter(|(ending, _)| last(ending)).collect();
        match longer.as_slice() {
            [] => Ok(None),
            [(only, _)] => Ok(Some(Self::Only((*only).clone()))),
            [(first, _), ..] => {
                let found = listed(longer.iter().map(|(ending, count)| format!("{count} KEY.{ending}")), LISTED);
                Err(format!(
                    "the images of its samples have several endings: {found}; choose one, as in `equimod data index \
                     LOCATION --image {first}`, or give --dotted-keys if keys extend to the last dot"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(endings: &[&str]) -> Result<Option<Naming>, String> {
        Naming::guess(&endings.iter().map(|ending| ((*ending).to_owned(), 1)).collect())
    }

    #[test]
    fn a_single_ending_is_taken_and_of_several_one_must_be_chosen() {
        assert_eq!(guess(&["jpg", "mask.png", "cls"]), Ok(Some(Naming::Plain)));
        assert_eq!(guess(&["input.jpg", "cls"]), Ok(Some(Naming::Only("input.jpg".into()))));
        assert_eq!(guess(&["npy", "cls"]), Ok(None));
        let text = guess(&["left.jpg", "right.jpg"]).unwrap_err();
        assert!(text.contains("1 KEY.left.jpg, 1 KEY.right.jpg") && text.contains("--image left.jpg"), "{text}");
    }

    #[test]
    fn keys_end_at_the_first_or_at_the_last_dot() {
        let path = Path::new("a.b/x.1.JPG");
        assert_eq!(Naming::Plain.split(path), ("a.b/x".into(), "1.jpg".into()));
        assert_eq!(Naming::LastDot.split(path), ("a.b/x.1".into(), "jpg".into()));
    }
}
