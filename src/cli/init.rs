//! Arguments of `init`.

use std::path::PathBuf;

use clap::Args;

use super::{DevicesArgs, Shortcuts};

/// Arguments of `init`.
#[derive(Args, Debug)]
pub struct Init {
    /// Training images: a data source of `equimod list datasets`.
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    pub images: Option<String>,
    /// As IMAGES.
    #[arg(long)]
    pub data: Option<String>,
    /// Recipe file to write.
    #[arg(long, default_value = "recipe.toml", value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub shortcuts: Shortcuts,
    /// As --set schedule.epochs=N.
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    #[command(flatten)]
    pub device: DevicesArgs,
}
