//! Errors of the crate.

use std::path::PathBuf;

/// The error of `equimod-train`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Every problem of a recipe, one per line.
    #[error("the recipe has {} problem{}:\n  {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("\n  "))]
    Recipe(Vec<String>),
    /// The data cannot be read or does not fit the recipe.
    #[error(transparent)]
    Data(#[from] equimod_data::Error),
    /// The data set cannot be trained on, for example because it has too few images.
    #[error("{0}")]
    DataSet(String),
    /// A network, loss or checkpoint failed.
    #[error(transparent)]
    Core(#[from] equimod_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The run directory cannot be used.
    #[error("{0}")]
    RunDirectory(String),
    /// The loss or the gradient is not finite.
    #[error(
        "training diverged at step {step}: {what}; lower the learning rate or lengthen the warm-up (`equimod replay \
         {}` repeats the step)",
        bundle.display()
    )]
    Diverged {
        /// Number of the step whose update was not applied, from 1.
        step: u64,
        /// Name of the non-finite quantity.
        what: String,
        /// Folder that `equimod replay` reads.
        bundle: PathBuf,
    },
    /// A probe failed.
    #[error(transparent)]
    Probe(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action, e.g. `"write"`.
        action: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an input/output error with the path and the action it belongs to.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
