//! Listings of the parts of data sets, saved to report later what changed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{BufRead, BufReader, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// Names of parts, each with a string that identifies its content.
pub type Entries<'a> = Box<dyn Iterator<Item = (String, String)> + 'a>;

/// Number of names that [`Changes`] shows of each kind.
const SHOWN: usize = 10;

/// Parts of a data set: content by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, String>);

impl Listing {
    /// Serializes entries as compressed JSON lines, one `[name, content]` each.
    ///
    /// # Errors
    ///
    /// If the compression fails.
    pub fn write(entries: Entries<'_>) -> std::io::Result<Vec<u8>> {
        let mut file = GzEncoder::new(Vec::new(), Compression::fast());
        for entry in entries {
            serde_json::to_writer(&mut file, &entry)?;
            file.write_all(b"\n")?;
        }
        file.finish()
    }

    /// Parses the output of [`Listing::write`].
    ///
    /// # Errors
    ///
    /// If the bytes are no such listing.
    pub fn read(bytes: &[u8]) -> std::io::Result<Self> {
        let lines = BufReader::new(GzDecoder::new(bytes)).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<std::io::Result<_>>().map(Self)
    }

    /// Changes from this listing to `now`.
    pub fn changes(&self, now: &Self) -> Changes {
        let beyond =
            |of: &Self, other: &Self| of.0.keys().filter(|name| !other.0.contains_key(*name)).cloned().collect();
        let differs = |(name, content): &(&String, &String)| now.0.get(*name).is_some_and(|now| now != *content);
        Changes {
            added: beyond(now, self),
            removed: beyond(self, now),
            other_content: self.0.iter().filter(differs).map(|(name, _)| name.clone()).collect(),
        }
    }
}

impl FromIterator<(String, String)> for Listing {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// Differences between two listings; displayed as one line per kind, with the count and the first names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New names.
    pub added: Vec<String>,
    /// Missing names.
    pub removed: Vec<String>,
    /// Names with different content.
    pub other_content: Vec<String>,
}

impl Changes {
    /// Whether there are no differences.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.other_content.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kinds = [("added", &self.added), ("removed", &self.removed), ("with other content", &self.other_content)];
        let mut text = String::new();
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            write!(text, "\n  {} {kind}: {shown}", names.len())?;
            if names.len() > SHOWN {
                write!(text, " and {} more", names.len() - SHOWN)?;
            }
        }
        f.write_str(text.trim_start_matches('\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: &[(&str, &str)]) -> Listing {
        entries.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn what_was_written_reads_back_and_damage_is_an_error() {
        let entries = [("a/1.png", "12"), ("b/\"quoted\"\t\n\u{fffd}.png", "7")];
        let whole = listing(&entries);
        let bytes = Listing::write(Box::new(whole.0.clone().into_iter())).unwrap();
        assert_eq!(Listing::read(&bytes).unwrap(), whole);
        for cut in 0..bytes.len() {
            assert!(Listing::read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn changes_are_counted_and_the_first_ten_are_named() {
        let before = listing(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(before.changes(&before).is_empty());
        let numbered: Vec<String> = (10..22).map(|k| format!("n{k}")).collect();
        let mut now: Vec<(&str, &str)> = numbered.iter().map(|name| (name.as_str(), "0")).collect();
        now.extend([("a", "1"), ("b", "5")]);
        let text = before.changes(&listing(&now)).to_string();
        assert_eq!(
            text,
            "  12 added: n10, n11, n12, n13, n14, n15, n16, n17, n18, n19 and 2 more\n  1 removed: c\n  \
             1 with other content: b"
        );
    }
}
