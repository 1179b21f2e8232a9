//! The error type of this crate.

use std::path::PathBuf;

/// The error of `equimod-eval`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Images cannot be read, or a data set cannot be used.
    #[error(transparent)]
    Data(#[from] equimod_data::Error),
    /// A network or a file of weights cannot be used.
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
        /// The failed action, e.g. `"write"`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Error::Protocol`] with this text.
pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Protocol(text.into()))
}
