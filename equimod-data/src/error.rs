//! Errors of this crate.

use std::path::PathBuf;

/// Error of `equimod-data`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Reason given by the operating system.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// Reason given by the operating system.
        source: std::io::Error,
    },
    /// An image cannot be decoded.
    #[error("the image {key} does not decode: {reason}; remove or replace it")]
    Image {
        /// Path of the image, or its row in a table.
        key: String,
        /// Reason, as a clause.
        reason: String,
    },
    /// A data set cannot be used.
    #[error("the data set {name} cannot be used: {reason}")]
    DataSet {
        /// Name or path of the data set.
        name: String,
        /// Reason and remedy.
        reason: String,
    },
    /// A setting is invalid.
    #[error("{0}")]
    Config(String),
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Write { path: path.into(), source }
    }

    pub(crate) fn data_set(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::DataSet { name: name.into(), reason: reason.into() }
    }
}
