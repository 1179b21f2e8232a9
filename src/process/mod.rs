//! The process: memory, device, signals, exit codes.

pub mod allocator;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod device_memory;
pub mod exit;
pub mod signals;
