//! Built-in recipes, and recipes in files that build on them.
//!
//! ```
//! let recipe = equimod::recipes::built_in("quick", &["schedule.epochs=5"])?;
//! assert_eq!(recipe.schedule.epochs, 5);
//! # Ok::<(), equimod::train::Error>(())
//! ```

use std::path::Path;

use equimod_train::{Error, Recipe, Result, assemble, base_of, find, resolve, resolve_with};

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
    named_with(name, settings, &|_| Vec::new())
}

/// As [`named`], with the problems that `further` finds.
///
/// # Errors
/// As [`named`], and if there are further problems.
pub fn named_with(
    name: &str,
    settings: &[String],
    further: &dyn Fn(&Recipe) -> Vec<String>,
) -> Result<(Recipe, String)> {
    let text = text(name)?;
    Ok((from_text_with(name, &text, settings, further)?, text + &as_comments(settings)))
}

/// The recipe in `text`, which messages call `name`, with `settings` on top.
///
/// # Errors
/// If a setting is unknown or invalid; all problems at once.
pub fn from_text(name: &str, text: &str, settings: &[String]) -> Result<Recipe> {
    from_text_with(name, text, settings, &|_| Vec::new())
}

/// As [`from_text`], with the problems that `further` finds.
///
/// # Errors
/// As [`from_text`], and if there are further problems.
pub fn from_text_with(
    name: &str,
    text: &str,
    settings: &[String],
    further: &dyn Fn(&Recipe) -> Vec<String>,
) -> Result<Recipe> {
    let mut recipe = resolve_with(&RECIPES, name, text, settings, further)?;
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
