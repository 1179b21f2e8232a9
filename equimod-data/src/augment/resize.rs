//! Resize and center crop, without randomness.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Encoding, Field, Params, check_side};
use crate::image::{Image, Size};
use crate::random::Rng;
use crate::resample::{self, Filter, shorter_side};

/// torchvision's `Resize(size)`: the shorter side is resized to `size`, with antialiasing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Shorter side of the output, in pixels.
    pub size: usize,
    /// Interpolation filter.
    pub filter: Filter,
}

/// torchvision's `CenterCrop(size)`: the center of the image, padded with black if the image is smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Side of the output, in pixels.
    pub size: usize,
}

/// Methods of [`Augmentation`] that are trivial for augmentations without parameters.
macro_rules! without_parameters {
    () => {
        fn sample(&self, _: Size, _: &mut Rng) -> Params {
            Params::Fixed
        }

        fn fields(&self, _: Encoding) -> &'static [Field] {
            &[]
        }

        fn encode(&self, _: &Params, _: Size, _: Encoding, _: &mut Vec<f32>) {}

        fn decode(&self, _: &[f32], _: Size, _: Encoding) -> Params {
            Params::Fixed
        }

        fn problems(&self) -> Vec<String> {
            check_side(self.size).into_iter().collect()
        }
    };
}

impl Augmentation for Resize {
    without_parameters!();

    fn apply(&self, image: Image, _: &Params) -> Image {
        match shorter_side(image.size(), self.size) {
            size if size == image.size() => image,
            size => resample::resize(&image, size, self.filter),
        }
    }

    fn output_size(&self, size: Size, _: &Params) -> Size {
        shorter_side(size, self.size)
    }

    fn describe(&self, _: &Params) -> (String, String) {
        ("resize".into(), format!("shorter side {}", self.size))
    }
}

impl Augmentation for CenterCrop {
    without_parameters!();

    fn apply(&self, image: Image, _: &Params) -> Image {
        match Size::square(self.size) {
            size if size == image.size() => image,
            size => resample::center_crop(&image, size),
        }
    }

    fn output_size(&self, _: Size, _: &Params) -> Size {
        Size::square(self.size)
    }

    fn describe(&self, _: &Params) -> (String, String) {
        ("center crop".into(), format!("{0} × {0}", self.size))
    }
}
