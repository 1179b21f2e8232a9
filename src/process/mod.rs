//! The process: memory, device, signals, exit codes.

pub mod allocator;
pub mod device;
pub mod exit;
pub mod signals;
