//! American spelling of names that earlier versions wrote in British spelling, in recipes and descriptions of models.

use serde::{Deserialize, Deserializer};

/// Names of augmentations and of their parameters, old and new.
const NAMES: [(&str, &str); 7] = [
    ("colour-jitter", "color-jitter"),
    ("centre-crop", "center-crop"),
    ("equalise", "equalize"),
    ("crop_centre_x", "crop_center_x"),
    ("crop_centre_y", "crop_center_y"),
    ("erasing_centre_x", "erasing_center_x"),
    ("erasing_centre_y", "erasing_center_y"),
];

/// The name in American spelling.
pub(crate) fn modern(name: &str) -> &str {
    NAMES.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new)
}

/// The name as used in tensor names. Initial values depend on tensor names and checkpoints hold them, so these keep the
/// earlier spelling.
pub(crate) fn stored(name: &str) -> &str {
    NAMES.iter().find(|(_, new)| *new == name).map_or(name, |(old, _)| old)
}

/// Deserializes a name in either spelling.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(modern(&String::deserialize(deserializer)?).to_owned())
}
