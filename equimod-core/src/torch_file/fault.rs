//! Reasons that a file of PyTorch is not read.

/// A reason, and how certain it is that the file itself is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file ends before what it announces.
    Truncated(String),
    /// A checksum or a length contradicts the content.
    Damaged(String),
    /// The content is unknown or not supported; the file may be sound.
    NotRead(String),
}

/// The result of reading a part of a file.
pub type Read<T> = std::result::Result<T, Fault>;

impl Fault {
    /// One sentence for people: the reason and what to do.
    pub fn sentence(&self) -> String {
        match self {
            Self::Truncated(what) => format!("it is truncated ({what}); fetch it again"),
            Self::Damaged(what) => format!("it is damaged ({what}); use another copy"),
            Self::NotRead(what) => format!("it cannot be read ({what})"),
        }
    }
}

/// A [`Fault::NotRead`].
pub fn not_read<T>(what: impl Into<String>) -> Read<T> {
    Err(Fault::NotRead(what.into()))
}
