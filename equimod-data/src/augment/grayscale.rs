//! Colour removed.

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Params, flag, yes_or_no};
use crate::colour;
use crate::encoding::Encoding;
use crate::image::{Image, Size};
use crate::random::Rng;

/// torchvision's `RandomGrayscale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grayscale {
    /// How often. Published: 0.2.
    pub probability: f64,
}

impl Augmentation for Grayscale {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        Params::Grayscale(rng.random_bool(self.probability))
    }

    fn apply(&self, mut image: Image, params: &Params) -> Image {
        if matches!(params, Params::Grayscale(true)) {
            colour::grayscale(&mut image);
        }
        image
    }

    fn identity(&self, _: Size) -> Params {
        Params::Grayscale(false)
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        out.push(flag(matches!(params, Params::Grayscale(true))));
    }

    fn names(&self, _: Encoding) -> &'static [&'static str] {
        &["grayscale"]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        ("grayscale".into(), yes_or_no(matches!(params, Params::Grayscale(true))))
    }
}
