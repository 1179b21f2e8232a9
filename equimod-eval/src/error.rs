//! What can go wrong in this crate.

use std::path::PathBuf;

/// The error of `equimod-eval`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pictures cannot be read.
    #[error(transparent)]
    Data(#[from] equimod_data::Error),
    /// The network cannot be used.
    #[error(transparent)]
    Core(#[from] equimod_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// Features or labels do not fit a protocol.
    #[error("{0}")]
    Protocol(String),
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

/// An [`Error::Protocol`].
pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Protocol(text.into()))
}
