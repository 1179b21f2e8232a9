//! Bright values inverted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{FLAG, Field, field};
use crate::color;
use crate::image::Image;

/// torchvision's `RandomSolarize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Solarize {
    /// How often. Published: 0.2 in BYOL's second view, else 0.
    pub probability: f64,
    /// The first value that is inverted. Published: 128.
    pub threshold: u8,
}

impl Switch for Solarize {
    const FIELD: &'static [Field] = &[field("solarize", FLAG)];
    const TITLE: &'static str = "solarize";

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        color::solarize(&mut image, self.threshold);
        image
    }
}
