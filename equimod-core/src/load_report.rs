//! Comparison of a file's tensors with a network.

use std::path::Path;

use serde::Serialize;

/// Result of the comparison between a file's tensors and a store, by names and shapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Names that match in file and store.
    pub matched: Vec<String>,
    /// Names in the store but not in the file.
    pub missing: Vec<String>,
    /// Names in the file but not in the store.
    pub unexpected: Vec<String>,
    /// Names with different shapes, as `name: shape in the file, shape in the store`.
    pub reshaped: Vec<String>,
    /// Prefix that was removed from the names of a file from another codebase, e.g. `module.encoder_q.`.
    pub prefix: String,
    /// Tensors of such a file that are not part of the ResNet (a classifier, heads).
    pub left_out: Vec<String>,
    /// Tensors and arrays of such a file that are not supported, each with the reason.
    pub not_read: Vec<String>,
    /// Content of such a file other than tensors, in words.
    pub beside: Vec<String>,
    /// Kind of the unsupported network that the file holds, if it is recognized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stranger: Option<String>,
}

impl LoadReport {
    /// Whether file and store have the same names and shapes.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.reshaped.is_empty()
    }

    /// Remarks to log for a file that loaded: the removed prefix, and the tensors left out.
    pub fn warnings(&self, path: &Path) -> Vec<String> {
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

    /// One sentence with the number of matching tensors and the first few mismatches.
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
