//! Recipes for one's own images, chosen from facts about the images and the machine.

mod facts;
mod rules;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

use crate::bundled::RECIPES;
use crate::recipes::{as_comments, from_text, named, readable_part, readable_text};
use candle_core::Device;
use equimod_train::{Error, Recipe};

use crate::cli::RecipeArgs;
use crate::inputs::sources::training;
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::reference::PREFIX;
use facts::Facts;
pub use rules::Choice;
use rules::{Given, choose};
pub use text::Written;

/// A recipe for the images of `source`, on ranks with these devices. Settings of the form `key=value` on which others
/// depend, such as the size of the views, are taken from `settings`.
///
/// # Errors
///
/// If the images cannot be read, are too few, or too many of them do not decode.
pub fn recipe_for(source: &str, settings: &[String], devices: &[Device]) -> anyhow::Result<Written> {
    let facts = Facts::of(source, devices)?;
    let choice = choose(&facts, &Given::of(settings));
    Ok(Written { facts, choice })
}

/// The recipe that the arguments name, with `settings` on top, and its text as it was given. With images but without a
/// name, a recipe is chosen for them, and a message says what it is.
///
/// # Errors
///
/// Those of [`recipe_for`], if several `processes` could choose differently, or the recipe is not valid.
pub fn named_or_chosen(
    arguments: &RecipeArgs,
    settings: &[String],
    devices: &[Device],
    processes: usize,
) -> anyhow::Result<(Recipe, String)> {
    let Some(source) = arguments.without_recipe() else {
        let read = named(arguments.name(), settings);
        return read.map_err(|error| with_problems_of_images(error, arguments.name(), settings).into());
    };
    if !Path::new(source).exists() && RECIPES.iter().any(|recipe| recipe.name == source) {
        return Err(Usage(format!("{source} is a recipe, and images were expected; write --recipe {source}")).into());
    }
    if processes > 1 {
        let text = format!(
            "there is no recipe, and {processes} processes could choose different ones; write one with `equimod init \
             {source}`, and give it with --recipe"
        );
        return Err(Usage(text).into());
    }
    let written = recipe_for(source, settings, devices)?;
    // The text names the source already.
    let settings: Vec<String> = settings.iter().filter(|key| !key.starts_with("data.source=")).cloned().collect();
    let text = written.text("equimod pretrain") + &as_comments(&settings);
    let recipe = written.resolved(&written.about(), &text, &settings)?;
    console::note(&written.summary());
    Ok((recipe, text))
}

impl Written {
    /// The recipe in `text`, which messages call `name`, with `settings` on top.
    ///
    /// # Errors
    ///
    /// With every problem of the recipe, alone and with its images.
    pub fn resolved(&self, name: &str, text: &str, settings: &[String]) -> equimod_train::Result<Recipe> {
        let of_images = |recipe: &Recipe| recipe.problems_with(self.facts.images.count);
        match from_text(name, text, settings) {
            Ok(recipe) => match of_images(&recipe) {
                problems if problems.is_empty() => Ok(recipe),
                problems => Err(Error::Recipe(problems)),
            },
            Err(Error::Recipe(mut problems)) => {
                problems.extend(readable_text(name, text, settings).iter().flat_map(of_images));
                Err(Error::Recipe(problems))
            }
            Err(other) => Err(other),
        }
    }
}

/// The problems of a recipe, and those that it has with its images, if they are on this machine.
fn with_problems_of_images(error: Error, name: &str, settings: &[String]) -> Error {
    let Error::Recipe(mut problems) = error else { return error };
    let Some(recipe) = readable_part(name, settings) else { return Error::Recipe(problems) };
    let source = &recipe.data.source;
    if !source.starts_with(PREFIX) {
        match training(source, recipe.data.reading()) {
            Ok((images, _)) => problems.extend(recipe.problems_with(images.len())),
            Err(reason) => problems.push(format!("data.source: {reason}")),
        }
    }
    Error::Recipe(problems)
}
