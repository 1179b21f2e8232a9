//! American spelling of names that earlier versions wrote in British spelling, in recipes and descriptions of models.

use serde::{Deserialize, Deserializer};

/// Names of augmentations, of their parameters and of encodings, old and new.
const NAMES: [(&str, &str); 9] = [
    ("greyscale", "grayscale"),
    ("colour-jitter", "color-jitter"),
    ("centre-crop", "center-crop"),
    ("equalise", "equalize"),
    ("crop_centre_x", "crop_center_x"),
    ("crop_centre_y", "crop_center_y"),
    ("erasing_centre_x", "erasing_center_x"),
    ("erasing_centre_y", "erasing_center_y"),
    ("size-normalised", "size-normalized"),
];

/// Name of an augmentation, a parameter or an encoding in today's spelling.
fn modern(name: &str) -> &str {
    NAMES.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new)
}

/// Deserializes a name in either spelling.
///
/// # Errors
///
/// If the value is no string.
pub fn deserialize_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(modern(&String::deserialize(deserializer)?).to_owned())
}

/// Deserializes names in either spelling.
///
/// # Errors
///
/// If the value is no list of strings.
pub fn deserialize_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.iter().map(|name| modern(name).to_owned()).collect())
}
