//! Entries of the tables from which lists, help and model cards are made.

use serde::Serialize;

/// One choice of a setting: an objective, a module, a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name in recipes.
    pub name: &'static str,
    /// Its name in papers.
    pub title: &'static str,
    /// Number of the paper on arXiv; empty if there is none.
    pub arxiv: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
}

impl Entry {
    /// What it does and where it was published, e.g. `contrast of views (SimCLR, arXiv 2002.05709)`.
    pub fn line(&self) -> String {
        match self.arxiv {
            "" => self.about.to_owned(),
            arxiv => format!("{} ({}, arXiv {arxiv})", self.about, self.title),
        }
    }
}
