//! Errors of the crate.

use std::path::PathBuf;

use crate::collective::CollectiveError;
use crate::load_report::LoadReport;

/// Error of `equimod-core`.
///
/// Every message is one sentence that names the problem, its place and the remedy. The fields hold the same facts for
/// programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed, because shapes, element types or devices do not fit.
    #[error("tensor operation failed: {0}")]
    Tensor(#[source] candle_core::Error),
    /// Communication between the processes of a run failed.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// A setting has a value that nothing can be built with.
    #[error("{setting} is {value}: {reason}")]
    InvalidSetting {
        /// Key of the setting as in a recipe, e.g. `objective.predictor`.
        setting: String,
        /// The value, as in a recipe.
        value: String,
        /// Reason for the refusal, and the remedy.
        reason: String,
    },
    /// Two equivariance modules cannot be used together.
    #[error("{first} and {second} {reason}; turn one of them off")]
    Conflict {
        /// Name of one module.
        first: String,
        /// Name of the other module.
        second: String,
        /// Reason, as the end of a sentence about the two.
        reason: &'static str,
    },
    /// Two things of the same kind have the same name.
    #[error("there are two {kind}s called {name}; give each its own name")]
    Duplicate {
        /// Kind of thing, e.g. `"parameter"` or `"module"`.
        kind: &'static str,
        /// The name that occurs twice.
        name: String,
    },
    /// There is nothing with this name.
    #[error("there is no {kind} {name}; {known}")]
    NotFound {
        /// Kind of thing, e.g. `"stage"` or `"equivariance module"`.
        kind: &'static str,
        /// The requested name.
        name: String,
        /// Existing names and their owner, as a clause.
        known: String,
    },
    /// An input that an objective or a module needs is absent.
    #[error("a part of the method needs {input}, and there are none; {remedy}")]
    MissingInput {
        /// The absent input, in the plural.
        input: &'static str,
        /// Source of the input.
        remedy: &'static str,
    },
    /// A batch has too few rows, or does not divide as it must.
    #[error("{part} needs {}, got {found}; {}", requirement(*least, *multiple_of, unit), remedy(*multiple_of))]
    BatchSize {
        /// The part that refuses the batch, e.g. `"NT-Xent"`.
        part: &'static str,
        /// Unit of the numbers, e.g. `"images"`.
        unit: &'static str,
        /// Smallest number that the part accepts.
        least: usize,
        /// The number must be a multiple of this; 1 if every number will do.
        multiple_of: usize,
        /// Number in the batch.
        found: usize,
    },
    /// A tensor or a buffer of pixels has another shape than its consumer expects.
    #[error("shape mismatch in {what}: expected {expected}, got {found}")]
    ShapeMismatch {
        /// Name of the tensor or buffer.
        what: String,
        /// Expected shape or size.
        expected: String,
        /// Actual shape or size.
        found: String,
    },
    /// The saved state of an optimizer does not belong to this optimizer.
    #[error("the optimizer's state {problem}; resume with the optimizer that saved it, or from another checkpoint")]
    OptimizerState {
        /// Name of the entry that is missing or unsuitable.
        entry: String,
        /// Problem, as the end of a sentence about the state.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action, e.g. `"read"`.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file is not a usable checkpoint.
    #[error("{} is not a usable checkpoint: {reason}", path.display())]
    Checkpoint {
        /// File or folder.
        path: PathBuf,
        /// Reason, and the remedy.
        reason: String,
    },
    /// The tensors of a file do not fit the network.
    #[error("the weights in {} do not fit the network: {}", path.display(), report.summary())]
    Mismatch {
        /// File.
        path: PathBuf,
        /// Names and shapes that fit, and those that differ.
        report: Box<LoadReport>,
    },
    /// An invariant of the library does not hold. No input should lead here.
    #[error("a defect of equimod, please report it: {violation}")]
    Internal {
        /// The violated invariant.
        violation: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl From<candle_core::Error> for Error {
    /// An [`Error::Tensor`], or the error of this crate that candle carries.
    fn from(error: candle_core::Error) -> Self {
        match error {
            candle_core::Error::WrappedContext { wrapped, context } => match wrapped.downcast::<Self>() {
                Ok(own) => *own,
                Err(wrapped) => Self::Tensor(candle_core::Error::WrappedContext { wrapped, context }),
            },
            other => Self::Tensor(other),
        }
    }
}

impl Error {
    /// The error in a form that passes through candle's backward pass; `From` restores it behind that.
    pub(crate) fn into_candle(self) -> candle_core::Error {
        match self {
            Self::Tensor(error) => error,
            own => {
                let context = "in a backward pass".into();
                candle_core::Error::WrappedContext { wrapped: Box::new(own), context }
            }
        }
    }

    /// Whether settings caused the error, so that another recipe avoids it; not files, data or a defect.
    pub fn concerns_settings(&self) -> bool {
        matches!(
            self,
            Self::InvalidSetting { .. }
                | Self::Conflict { .. }
                | Self::Duplicate { .. }
                | Self::NotFound { .. }
                | Self::MissingInput { .. }
        )
    }

    /// Wraps an I/O error with its path and action.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// An [`Error::Checkpoint`].
    pub(crate) fn checkpoint(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), reason: reason.into() }
    }

    /// An [`Error::InvalidSetting`].
    pub(crate) fn setting(setting: impl Into<String>, value: impl ToString, reason: impl Into<String>) -> Self {
        Self::InvalidSetting { setting: setting.into(), value: value.to_string(), reason: reason.into() }
    }

    /// An [`Error::Internal`].
    pub(crate) fn internal(violation: impl Into<String>) -> Self {
        Self::Internal { violation: violation.into() }
    }

    /// An [`Error::BatchSize`] of a part that needs at least two `unit`.
    pub(crate) fn fewer_than_two(part: &'static str, unit: &'static str, found: usize) -> Self {
        Self::BatchSize { part, unit, least: 2, multiple_of: 1, found }
    }

    /// An [`Error::BatchSize`] of a part that needs a positive multiple of `multiple_of` `unit`.
    pub(crate) fn uneven(part: &'static str, unit: &'static str, multiple_of: usize, found: usize) -> Self {
        Self::BatchSize { part, unit, least: multiple_of, multiple_of, found }
    }
}

/// The names, separated by commas; "none" if there are none.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn requirement(least: usize, multiple_of: usize, unit: &str) -> String {
    match multiple_of {
        0 | 1 => format!("at least {least} {unit}"),
        _ => format!("a positive multiple of {multiple_of} {unit}"),
    }
}

fn remedy(multiple_of: usize) -> &'static str {
    if multiple_of > 1 { "use another batch size" } else { "use a larger batch" }
}
