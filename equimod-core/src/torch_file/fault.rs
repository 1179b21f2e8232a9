//! Reasons why a PyTorch file cannot be read.

/// Reason, by whether the file itself is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is shorter than it declares.
    Truncated(String),
    /// A checksum or a length contradicts the content.
    Damaged(String),
    /// The content is unknown or not supported; the file may be sound.
    NotRead(String),
}

/// Result of reading a part of a file.
pub type Read<T> = std::result::Result<T, Fault>;

impl Fault {
    /// One sentence with the reason and the remedy.
    pub fn sentence(&self) -> String {
        match self {
            Self::Truncated(what) => format!("it is truncated ({what}); fetch it again"),
            Self::Damaged(what) => format!("it is damaged ({what}); use another copy"),
            Self::NotRead(what) => format!("it cannot be read ({what})"),
        }
    }
}

/// [`Fault::NotRead`] as an error.
pub fn not_read<T>(what: impl Into<String>) -> Read<T> {
    Err(Fault::NotRead(what.into()))
}
