//! The process: memory, device, signals, exit codes, and the processes started with it.

pub mod allocator;
pub mod between_gpus;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod device_memory;
pub mod exit;
pub mod failure;
pub mod git;
pub mod launch;
pub mod memory;
#[cfg(any(feature = "nccl", test))]
mod rendezvous;
pub mod signals;
