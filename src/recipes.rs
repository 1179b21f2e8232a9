//! Built-in recipes, and recipes in files that build on them.
//!
//! ```
//! let recipe = equimod::recipes::built_in("quick", &["schedule.epochs=5"])?;
//! assert_eq!(recipe.schedule.epochs, 5);
//! # Ok::<(), equimod::train::Error>(())
//! ```

use std::path::Path;

use equimod_train::{Error, Recipe, Result, assemble, base_of, find, readable, resolve};

use crate::bundled::RECIPES;

/// The built-in recipe `name` with `settings` of the form `key=value` on top.
///
/// # Errors
/// If there is no such recipe, or a setting is unknown or invalid; all problems at once.
pub fn built_in(name: &str, settings: &[&str]) -> Result<Recipe> {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    resolve(&RECIPES, name, &base_text(name)?, &settings)
}

/// The recipe `name`, a file or a built-in recipe, with `settings` on top. The second value is the recipe's text as
/// it was given, with the settings as comments.
///
/// # Errors
/// If there is no such file or recipe, or a setting is unknown or invalid; all problems at once.
pub fn named(name: &str, settings: &[String]) -> Result<(Recipe, String)> {
    let text = text(name)?;
    Ok((from_text(name, &text, settings)?, text + &as_comments(settings)))
}

/// The recipe in `text`, which messages call `name`, with `settings` on top.
///
/// # Errors
/// If a setting is unknown or invalid; all problems at once.
pub fn from_text(name: &str, text: &str, settings: &[String]) -> Result<Recipe> {
    let mut recipe = resolve(&RECIPES, name, text, settings)?;
    if !settings.is_empty() {
        // The description of the recipe no longer holds.
        recipe.about = format!("{name} with {}", settings.join(", "));
    }
    Ok(recipe)
}

/// As [`named`], without a check of what only training needs.
///
/// # Errors
/// As [`named`].
pub fn unchecked(name: &str, settings: &[String]) -> Result<Recipe> {
    unchecked_text(name, &text(name)?, settings)
}

/// As [`from_text`], without a check of what only training needs.
///
/// # Errors
/// If a setting is unknown or cannot be read; all problems at once.
pub fn unchecked_text(name: &str, text: &str, settings: &[String]) -> Result<Recipe> {
    assemble(&RECIPES, name, text, settings)
}

/// The recipe `name` as far as it can be read, with `settings` on top, to find further problems.
pub fn readable_part(name: &str, settings: &[String]) -> Option<Recipe> {
    readable_text(name, &text(name).ok()?, settings)
}

/// As [`readable_part`], of the recipe in `text`.
pub fn readable_text(name: &str, text: &str, settings: &[String]) -> Option<Recipe> {
    readable(&RECIPES, name, text, settings)
}

/// The base of the recipe `name` with its name: a built-in recipe is its own base; without a base, the defaults.
///
/// # Errors
/// If there is no such file or recipe.
pub fn base(name: &str) -> Result<(String, Recipe)> {
    match base_of(&text(name)?) {
        Some(base) => Ok((base.clone(), assemble(&RECIPES, &base, &format!("base = {base:?}\n"), &[])?)),
        None => Ok(("the defaults".into(), Recipe::default())),
    }
}

/// Settings of a command line as comments of a recipe file.
pub fn as_comments(settings: &[String]) -> String {
    settings.iter().map(|setting| format!("# --set {setting}\n")).collect()
}

fn text(name: &str) -> Result<String> {
    let path = Path::new(name);
    match path.is_file() {
        true => std::fs::read_to_string(path).map_err(|source| Error::Io { action: "read", path: path.into(), source }),
        false => base_text(name),
    }
}

fn base_text(name: &str) -> Result<String> {
    Ok(format!("base = {:?}\n", find(&RECIPES, name)?.name))
}
