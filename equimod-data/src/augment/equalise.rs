//! The histogram of each channel flattened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{FLAG, Field, field};
use crate::color;
use crate::image::Image;

/// torchvision's `RandomEqualize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Equalise {
    /// How often.
    pub probability: f64,
}

impl Switch for Equalise {
    const FIELD: &'static [Field] = &[field("equalise", FLAG)];
    const TITLE: &'static str = "equalise";

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        color::equalize(&mut image);
        image
    }
}
