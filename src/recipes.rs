//! From the name of a recipe to the recipe.

use std::path::Path;

use anyhow::Context;
use equimod_train::{Recipe, assemble, base_of, find, resolve};

use crate::bundled::RECIPES;
use crate::cli::RecipeArgs;

/// The settings that arguments put on top of a recipe.
pub fn settings(arguments: &RecipeArgs) -> Vec<String> {
    let data = arguments.data.iter().map(|data| format!("data.source={data:?}"));
    arguments.settings.iter().cloned().chain(data).collect()
}

/// The recipe `name` (built in, or a file) with `settings` on top, and the text that was asked for.
pub fn asked(name: &str, settings: &[String]) -> anyhow::Result<(Recipe, String)> {
    let text = text(name)?;
    let mut recipe = resolve(&RECIPES, name, &text, settings)?;
    if !settings.is_empty() {
        // The recipe's own words no longer hold.
        recipe.about = format!("{name} with {}", settings.join(", "));
    }
    Ok((recipe, text + &as_comments(settings)))
}

/// Settings that were given beside a file, as comments behind it.
pub fn as_comments(settings: &[String]) -> String {
    settings.iter().map(|setting| format!("# --set {setting}\n")).collect()
}

/// What the recipe `name` builds on: itself if it is built in, its base, or the defaults.
pub fn base(name: &str) -> anyhow::Result<(String, Recipe)> {
    match base_of(&text(name)?) {
        Some(base) => Ok((base.clone(), assemble(&RECIPES, &base, &format!("base = {base:?}\n"), &[])?)),
        None => Ok(("the defaults".into(), Recipe::default())),
    }
}

/// As [`asked`], for a look at parts of a recipe: what only training asks for is not checked.
pub fn unchecked(name: &str, settings: &[String]) -> anyhow::Result<Recipe> {
    Ok(assemble(&RECIPES, name, &text(name)?, settings)?)
}

fn text(name: &str) -> anyhow::Result<String> {
    let path = Path::new(name);
    match path.is_file() {
        true => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        false => Ok(format!("base = {:?}\n", find(&RECIPES, name)?.name)),
    }
}
