//! What can go wrong in this crate.

use std::path::PathBuf;

/// The error of `equimod-data`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A picture does not decode.
    #[error("the picture {key} does not decode: {reason}; remove or replace it")]
    Picture {
        /// Its path, or its row in a table.
        key: String,
        /// Why.
        reason: String,
    },
    /// A data set is not what it should be.
    #[error("the data set {name} cannot be used: {reason}")]
    DataSet {
        /// Its name or path.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A setting that cannot be.
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
