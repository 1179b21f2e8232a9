//! Arguments of `doctor`.

use clap::Args;

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Also check this device against the CPU in f64, and time training steps on it: auto, cpu, cuda:N or metal:N.
    #[arg(long)]
    pub device: Option<String>,
    /// Print as JSON; docs/gpu.md describes the keys.
    #[arg(long)]
    pub json: bool,
}
