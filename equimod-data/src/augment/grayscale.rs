//! Conversion to grayscale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{FLAG, Field, field};
use crate::color;
use crate::image::Image;
use crate::plan::PixelOperation;

/// torchvision's `RandomGrayscale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grayscale {
    /// Probability that it is applied, 0 to 1. Published: 0.2.
    pub probability: f64,
}

impl Switch for Grayscale {
    const FIELD: &'static [Field] = &[field("grayscale", FLAG)];
    const TITLE: &'static str = "grayscale";

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        color::grayscale(&mut image);
        image
    }

    fn operation(&self) -> Option<PixelOperation> {
        Some(PixelOperation::Grayscale)
    }
}
