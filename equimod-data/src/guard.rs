//! Panics of other crates on damaged files.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of another crate that may panic on a damaged file: parquet does for some schemas and pages, png 0.18.1 for a
/// palette whose length is not a multiple of three. The panic becomes the error `damage`.
pub(crate) fn guarded<T>(damage: &str, read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(damage.to_owned()))
}
