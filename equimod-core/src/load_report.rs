//! Report of a comparison between a file and a network.

use std::path::Path;

use serde::Serialize;

/// Which names and shapes of a file fit a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Read into the store.
    pub matched: Vec<String>,
    /// In the store, not in the file.
    pub missing: Vec<String>,
    /// In the file, not in the store.
    pub unexpected: Vec<String>,
    /// `name: shape in the file, shape in the store`.
    pub reshaped: Vec<String>,
    /// Prefix of the names in a foreign file that was removed, e.g. `module.encoder_q.`.
    pub prefix: String,
    /// Tensors of a foreign file that are not the ResNet's (a classifier, heads).
    pub left_out: Vec<String>,
    /// Tensors and arrays of a foreign file that are not read, each with the reason.
    pub not_read: Vec<String>,
    /// Contents of a foreign file beside tensors, in words.
    pub beside: Vec<String>,
    /// The other network that the file holds, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stranger: Option<String>,
}

impl LoadReport {
    /// Whether the file and the store hold the same names and shapes.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.reshaped.is_empty()
    }

    /// What is worth telling of a file that loaded: the prefix, and what was left out.
    pub fn told(&self, path: &Path) -> Vec<String> {
        let mut told = Vec::new();
        if !self.prefix.is_empty() {
            told.push(format!("the prefix {} of names in {}", self.prefix, path.display()));
        }
        if let [first, rest @ ..] = self.left_out.as_slice() {
            let more = if rest.is_empty() { "" } else { ", …" };
            told.push(format!(
                "{} tensors in {} that are not the ResNet's: {first}{more}",
                rest.len() + 1,
                path.display()
            ));
        }
        told.extend(self.not_read.iter().map(|name| format!("{name} (in {})", path.display())));
        told
    }

    /// One sentence: how many fit and the first few that do not.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("{} tensors fit", self.matched.len())];
        for (what, names) in
            [("missing", &self.missing), ("unexpected", &self.unexpected), ("of another shape", &self.reshaped)]
        {
            if !names.is_empty() {
                let few: Vec<_> = names.iter().take(3).map(String::as_str).collect();
                let more = if names.len() > few.len() { ", …" } else { "" };
                parts.push(format!("{} {what} ({}{more})", names.len(), few.join(", ")));
            }
        }
        let what = self.stranger.as_ref().map(|what| format!("; it is {what}")).unwrap_or_default();
        let unread = self.not_read.first().map(|first| format!("; not read: {first}")).unwrap_or_default();
        parts.join(", ") + &what + &unread
    }
}
