//! Left and right exchanged.

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Params, flag, yes_or_no};
use crate::encoding::Encoding;
use crate::image::{Image, Size};
use crate::random::Rng;

/// torchvision's `RandomHorizontalFlip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizontalFlip {
    /// How often. Published: 0.5.
    pub probability: f64,
}

impl Augmentation for HorizontalFlip {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        Params::HorizontalFlip(rng.random_bool(self.probability))
    }

    fn apply(&self, mut image: Image, params: &Params) -> Image {
        if matches!(params, Params::HorizontalFlip(true)) {
            let row = image.size().width * 3;
            for line in image.pixels_mut().chunks_exact_mut(row) {
                // Backwards, then each pixel's channels forwards again.
                line.reverse();
                line.chunks_exact_mut(3).for_each(<[u8]>::reverse);
            }
        }
        image
    }

    fn identity(&self, _: Size) -> Params {
        Params::HorizontalFlip(false)
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        out.push(flag(matches!(params, Params::HorizontalFlip(true))));
    }

    fn names(&self, _: Encoding) -> &'static [&'static str] {
        &["horizontal_flip"]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        ("flip".into(), yes_or_no(matches!(params, Params::HorizontalFlip(true))))
    }
}
