//! What can go wrong in this crate.

use std::path::PathBuf;

/// The error of `equimod-train`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Every problem of a recipe, one a line.
    #[error("the recipe has {} problem{}:\n  {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("\n  "))]
    Recipe(Vec<String>),
    /// The data cannot be read or do not fit the recipe.
    #[error(transparent)]
    Data(#[from] equimod_data::Error),
    /// Not enough pictures, or the like.
    #[error("{0}")]
    DataSet(String),
    /// Networks, losses, checkpoints.
    #[error(transparent)]
    Core(#[from] equimod_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The run directory cannot be used.
    #[error("{0}")]
    RunDirectory(String),
    /// The loss or the gradient is no longer a number.
    #[error(
        "training diverged at step {step}: {what}; lower the learning rate or lengthen the warm-up (`equimod replay {}` takes \
         the step again)",
        bundle.display()
    )]
    Diverged {
        /// The step whose update was not made.
        step: u64,
        /// What was not finite.
        what: String,
        /// The folder with what it takes to see that again.
        bundle: PathBuf,
    },
    /// A probe failed.
    #[error(transparent)]
    Probe(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, e.g. `"write"`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
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
