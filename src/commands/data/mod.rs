//! `equimod data`, with one file per subcommand.

mod fetch;
mod index;
mod pack;
mod params;
mod preview;
mod stats;
mod verify;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use equimod_data::source::ReadOptions;
use equimod_data::{Dataset, LayoutConfig, PackedDataset, Policy};
use equimod_train::Recipe;

use crate::choice::recipe_for;
use crate::cli::{BUNDLED, DEFAULT_RECIPE, Data, DataCommand, PolicyArgs, ReadingArgs, SourceArgs};
use crate::inputs::sources::{splits, training};
use crate::outputs::console;
use crate::process::device;
use crate::process::exit::Usage;
use crate::recipes::{unchecked, unchecked_text};

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
        self.open_with(self.reading.reading())
    }

    fn open_with(&self, reading: ReadOptions) -> anyhow::Result<Arc<dyn Dataset>> {
        if self.reading.background.is_some() && PackedDataset::is_at(Path::new(&self.source)) {
            console::note(&format!("{} keeps the pixels that it was packed with, whatever --background", self.source));
        }
        if !self.test {
            return training(&self.source, reading).map(|(images, _)| images);
        }
        let test = splits(&self.source, reading)?.test;
        Ok(test.ok_or_else(|| Usage(format!("{} has no test images", self.source)))?)
    }
}

/// Images with the augmentations that are looked at.
struct Augmented {
    dataset: Arc<dyn Dataset>,
    policy: Policy,
    layout: LayoutConfig,
}

impl PolicyArgs {
    /// Opens the images, and the policy and layout of the recipe, overridden by the arguments. Transparent pixels are
    /// treated as in the recipe.
    fn open(&self, images: &SourceArgs) -> anyhow::Result<Augmented> {
        let mut settings = self.settings.clone();
        settings.extend(self.policy.iter().map(|name| format!("augmentation.policy={name:?}")));
        settings.extend(self.size.iter().map(|size| format!("augmentation.size={size}")));
        let recipe = match &self.recipe {
            Some(name) => unchecked(name, &settings)?,
            None if images.source == BUNDLED => unchecked(DEFAULT_RECIPE, &settings)?,
            None => chosen(&images.source, &settings)?,
        };
        let mut reading = images.reading.reading();
        if reading.background.0.is_none() {
            reading.background = recipe.data.background;
        }
        let augmentation = recipe.augmentation;
        let (policy, layout) = (augmentation.policy()?, augmentation.layout()?);
        Ok(Augmented { dataset: images.open_with(reading)?, policy, layout })
    }
}

/// The recipe with which `equimod pretrain SOURCE` would train. Images that are not fit for training are shown with the
/// default one.
fn chosen(source: &str, settings: &[String]) -> anyhow::Result<Recipe> {
    match recipe_for(source, settings, &[device::open("auto")?]) {
        Ok(written) => {
            console::note(&format!("as chosen for these images: {}", written.summary_of_views()));
            Ok(unchecked_text(&written.about(), &written.text("equimod init"), settings)?)
        }
        Err(error) => {
            console::note(&format!("{error}; these are the augmentations of the recipe {DEFAULT_RECIPE}"));
            Ok(unchecked(DEFAULT_RECIPE, settings)?)
        }
    }
}
