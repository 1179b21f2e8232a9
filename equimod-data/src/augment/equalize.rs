//! Histogram equalization of each channel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{FLAG, Field, field};
use crate::color;
use crate::image::Image;

/// torchvision's `RandomEqualize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Equalize {
    /// Probability that it is applied, 0 to 1.
    pub probability: f64,
}

impl Switch for Equalize {
    const FIELD: &'static [Field] = &[field("equalize", FLAG)];
    const TITLE: &'static str = "equalize";

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        color::equalize(&mut image);
        image
    }
}
