//! Entries of the tables from which lists, help texts and model cards are generated.

use serde::Serialize;

/// One choice of a setting, such as an objective, a module or a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Name in recipes.
    pub name: &'static str,
    /// Name in papers.
    pub title: &'static str,
    /// arXiv identifier of the paper; empty if there is none.
    pub arxiv: &'static str,
    /// Description in one line.
    pub about: &'static str,
}

impl Entry {
    /// Description and publication, e.g. `contrast of views (SimCLR, arXiv 2002.05709)`.
    pub fn line(&self) -> String {
        match self.arxiv {
            "" => self.about.to_owned(),
            arxiv => format!("{} ({}, arXiv {arxiv})", self.about, self.title),
        }
    }
}
