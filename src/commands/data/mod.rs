//! `equimod data`, with one file per subcommand.

mod fetch;
mod index;
mod pack;
mod params;
mod preview;
mod stats;
mod verify;

use std::process::ExitCode;
use std::sync::Arc;

use crate::recipes::unchecked;
use equimod_data::source::ReadOptions;
use equimod_data::{Dataset, LayoutConfig, Policy};

use crate::cli::{Data, DataCommand, PolicyArgs, ReadingArgs, SourceArgs};
use crate::inputs::sources::{splits, training};
use crate::process::exit::Usage;

/// Runs the subcommand.
pub fn run(arguments: &Data) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        DataCommand::Preview(arguments) => preview::run(arguments),
        DataCommand::Stats(arguments) => stats::run(arguments),
        DataCommand::Params(arguments) => params::run(arguments),
        DataCommand::Verify(arguments) => verify::run(arguments),
        DataCommand::Pack(arguments) => pack::run(arguments),
        DataCommand::Index(arguments) => index::run(arguments),
        DataCommand::Fetch(arguments) => fetch::run(arguments),
    }
}

impl ReadingArgs {
    /// Options for opening a source.
    pub fn reading(self) -> ReadOptions {
        ReadOptions { apply_orientation: self.apply_orientation, background: self.background.unwrap_or_default() }
    }
}

impl SourceArgs {
    /// Opens the training or test images.
    fn open(&self) -> anyhow::Result<Arc<dyn Dataset>> {
        let reading = self.reading.reading();
        if !self.test {
            return training(&self.source, reading).map(|(images, _)| images);
        }
        let test = splits(&self.source, reading)?.test;
        Ok(test.ok_or_else(|| Usage(format!("{} has no test images", self.source)))?)
    }
}

impl PolicyArgs {
    /// Policy and layout of the recipe, overridden by the arguments.
    fn open(&self) -> anyhow::Result<(Policy, LayoutConfig)> {
        let mut settings = self.settings.clone();
        settings.extend(self.policy.iter().map(|name| format!("augmentation.policy={name:?}")));
        settings.extend(self.size.iter().map(|size| format!("augmentation.size={size}")));
        let augmentation = unchecked(&self.recipe, &settings)?.augmentation;
        Ok((augmentation.policy()?, augmentation.layout()?))
    }
}
