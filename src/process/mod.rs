//! The process: memory, device, signals, exit codes.

pub mod allocator;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod exit;
pub mod signals;
