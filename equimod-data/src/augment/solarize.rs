//! Solarization: inversion of bright values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{FLAG, Field, field};
use crate::color;
use crate::image::Image;
use crate::plan::PixelOperation;

/// torchvision's `RandomSolarize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Solarize {
    /// Probability that it is applied, 0 to 1. Published: 0.2 in BYOL's second view, 0 elsewhere.
    pub probability: f64,
    /// Lowest value that is inverted. Published: 128.
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

    fn operation(&self) -> Option<PixelOperation> {
        Some(PixelOperation::Solarize(self.threshold))
    }
}
