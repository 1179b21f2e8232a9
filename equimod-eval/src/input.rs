//! Resizing and cropping of images to a network's input size.

use equimod_core::Model;
use equimod_data::resample::{Filter, resize, resize_and_center_crop};
use equimod_data::{Image, Size};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;

/// The part of an image that enters the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The shorter side is resized to the input size, then the center is cropped (Kornblith et al., arXiv 1805.08974).
    #[default]
    #[serde(alias = "centre")]
    Center,
    /// The shorter side is resized to 8/7 of the input size (32 → 36, 224 → 256, 448 → 512), then the center is
    /// cropped: the test transform of the published linear evaluation.
    Inset,
    /// The whole image is resized to the square, whatever its aspect ratio.
    Whole,
}

impl Crop {
    /// Name in arguments and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Center => "center",
            Self::Inset => "inset",
            Self::Whole => "whole",
        }
    }
}

/// Resizing (bicubic) and cropping of images to a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTransform {
    /// Side of the square in pixels.
    pub size: usize,
    /// The part of an image that is kept.
    pub crop: Crop,
}

/// Input sizes that are accepted, in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 8..=2048;

impl InputTransform {
    /// The transform for `model`: to the size of its training, or to `size`.
    ///
    /// # Errors
    /// If the size is below 8 or above 2048 pixels.
    pub fn of(model: &Model, size: Option<usize>, crop: Crop) -> Result<Self> {
        let size = size.unwrap_or(model.preprocessing.size);
        if !SIDES.contains(&size) {
            return refuse(format!("images of {size} pixels a side cannot be evaluated; give a size from 8 to 2048"));
        }
        Ok(Self { size, crop })
    }

    /// Length of the shorter side before an inset crop: 8/7 of `size`, rounded down.
    pub fn inset(size: usize) -> usize {
        size * 8 / 7
    }

    /// The resized and cropped image.
    pub fn apply(self, image: &Image) -> Image {
        let square = Size::square(self.size);
        match self.crop {
            Crop::Inset => resize_and_center_crop(image, Self::inset(self.size), self.size, Filter::Bicubic),
            Crop::Center | Crop::Whole if image.size() == square => image.clone(),
            Crop::Center => resize_and_center_crop(image, self.size, self.size, Filter::Bicubic),
            Crop::Whole => resize(image, square, Filter::Bicubic),
        }
    }

    /// Text for reports, e.g. `32 × 32 pixels, center crop`.
    pub fn describe(self) -> String {
        format!("{0} × {0} pixels, {1} crop", self.size, self.crop.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sides_are_exact() {
        assert_eq!([32, 224, 448].map(InputTransform::inset), [36, 256, 512]);
    }

    #[test]
    fn every_crop_gives_the_square() {
        let image = Image::new(Size { height: 20, width: 33 }, vec![7; 20 * 33 * 3]).unwrap();
        for crop in [Crop::Center, Crop::Inset, Crop::Whole] {
            assert_eq!(InputTransform { size: 16, crop }.apply(&image).size(), Size::square(16));
        }
    }
}
