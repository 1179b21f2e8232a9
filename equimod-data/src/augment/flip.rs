//! Horizontal and vertical flips.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{Axis, FLAG, Field, field};
use crate::image::Image;
use crate::plan::PixelOperation;

/// torchvision's `RandomHorizontalFlip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HorizontalFlip {
    /// Probability of a flip, 0 to 1. Published: 0.5.
    pub probability: f64,
}

/// torchvision's `RandomVerticalFlip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerticalFlip {
    /// Probability of a flip, 0 to 1.
    pub probability: f64,
}

impl Switch for HorizontalFlip {
    const FIELD: &'static [Field] = &[field("horizontal_flip", FLAG)];
    const TITLE: &'static str = "flip";
    const MIRRORS: Option<Axis> = Some(Axis::X);

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        image.flip_horizontally();
        image
    }

    fn operation(&self) -> Option<PixelOperation> {
        Some(PixelOperation::HorizontalFlip)
    }
}

impl Switch for VerticalFlip {
    const FIELD: &'static [Field] = &[field("vertical_flip", FLAG)];
    const TITLE: &'static str = "vertical flip";
    const MIRRORS: Option<Axis> = Some(Axis::Y);

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        image.flip_vertically();
        image
    }

    fn operation(&self) -> Option<PixelOperation> {
        Some(PixelOperation::VerticalFlip)
    }
}
