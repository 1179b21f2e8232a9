//! Recipes for one's own images, chosen from facts about the images and the machine.

mod facts;
mod rules;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

use crate::bundled::RECIPES;
use crate::recipes::{as_comments, from_text_with, named, named_with};
use candle_core::Device;
use equimod_core::{Architecture, Entry, ObjectiveConfig};
use equimod_train::{Error, Recipe};

use crate::cli::RecipeArgs;
use crate::inputs::sources::training;
use crate::outputs::console;
use crate::process::exit::Usage;
use crate::reference::PREFIX;
use crate::run::probe;
use facts::Facts;
use rules::{Given, choose};
pub use text::Written;

/// A recipe for the images of `source`, on ranks with these devices. Settings of the form `key=value` on which others
/// depend, such as the size of the views, are taken from `settings`.
///
/// # Errors
///
/// If the images cannot be read, are too few, or too many of them do not decode.
pub fn recipe_for(source: &str, settings: &[String], devices: &[Device]) -> anyhow::Result<Written> {
    let given = Given::of(settings);
    let facts = Facts::of(source, given.background, devices)?;
    let choice = choose(&facts, &given);
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
        return Ok(match named(arguments.name(), settings) {
            // The images are opened to find all problems at once.
            Err(Error::Recipe(_)) => named_with(arguments.name(), settings, &problems_of_images)?,
            read => read?,
        });
    };
    if let Some((what, option)) = named_thing(source) {
        return Err(Usage(format!("{source} is {what}, and images were expected; write {option}{source}")).into());
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
    let recipe = written.resolved(&written.name_with(&settings), &text, &settings)?;
    console::note(&written.summary());
    Ok((recipe, text))
}

/// What a word stands for where images are expected, if it is no file, and the option that takes it.
fn named_thing(word: &str) -> Option<(&'static str, &'static str)> {
    let is_of = |list: &[Entry]| list.iter().any(|entry| entry.name == word);
    match word {
        word if Path::new(word).exists() => None,
        word if RECIPES.iter().any(|recipe| recipe.name == word) => Some(("a recipe", "--recipe ")),
        _ if is_of(ObjectiveConfig::LIST) => Some(("an objective", "--set objective.kind=")),
        word if Architecture::ALL.iter().any(|known| known.name() == word) => {
            Some(("a backbone", "--set backbone.architecture="))
        }
        _ => None,
    }
}

impl Written {
    /// The recipe in `text`, which messages call `name`, with `settings` on top.
    ///
    /// # Errors
    ///
    /// With every problem of the recipe, alone and with its images.
    pub fn resolved(&self, name: &str, text: &str, settings: &[String]) -> equimod_train::Result<Recipe> {
        from_text_with(name, text, settings, &|recipe| recipe.problems_with(self.facts.images.count))
    }
}

/// The problems of a recipe with its images, if they are on this machine.
fn problems_of_images(recipe: &Recipe) -> Vec<String> {
    let source = &recipe.data.source;
    if source.starts_with(PREFIX) {
        return Vec::new();
    }
    match training(source, recipe.data.reading()) {
        Ok((images, _)) => recipe.problems_with(images.len()).into_iter().chain(probe::problem(recipe)).collect(),
        Err(reason) => vec![format!("data.source: {reason}")],
    }
}
