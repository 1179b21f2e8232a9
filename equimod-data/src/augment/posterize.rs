//! Reduction of the bits per channel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::switch::Switch;
use super::{FLAG, Field, field};
use crate::color;
use crate::image::Image;
use crate::plan::PixelOperation;

/// torchvision's `RandomPosterize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Posterize {
    /// Probability that it is applied, 0 to 1.
    pub probability: f64,
    /// Number of upper bits that are kept of each value, 0 to 8.
    pub bits: u8,
}

impl Switch for Posterize {
    const FIELD: &'static [Field] = &[field("posterize", FLAG)];
    const TITLE: &'static str = "posterize";

    fn probability(&self) -> f64 {
        self.probability
    }

    fn change(&self, mut image: Image) -> Image {
        color::posterize(&mut image, self.bits);
        image
    }

    fn operation(&self) -> Option<PixelOperation> {
        Some(PixelOperation::Posterize(self.bits))
    }

    fn further_problems(&self) -> Vec<String> {
        let problem = (self.bits > 8).then(|| format!("bits is {}; give a number from 0 to 8", self.bits));
        problem.into_iter().collect()
    }
}
