//! How pictures are brought to a network's input.

use equimod_core::Model;
use equimod_data::resample::{Filter, resize, resize_and_center_crop};
use equimod_data::{Image, Size};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;

/// Which part of a picture is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The shorter side is resized to the input's side, the middle is taken (Kornblith et al., arXiv 1805.08974).
    #[default]
    Centre,
    /// The shorter side is resized to somewhat more (32 → 36, 224 → 256, 448 → 512), the middle is taken: the test view of the
    /// published linear evaluation.
    Inset,
    /// The whole picture is resized to the square, whatever its proportions.
    Whole,
}

impl Crop {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Centre => "centre",
            Self::Inset => "inset",
            Self::Whole => "whole",
        }
    }
}

/// The square input that pictures are brought to, bicubic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its side in pixels.
    pub size: usize,
    /// Which part of a picture is seen.
    pub crop: Crop,
}

/// Sides that a network can be asked to take, in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 8..=2048;

impl Input {
    /// The input that `model` was made for, or of another `size`.
    pub fn of(model: &Model, size: Option<usize>, crop: Crop) -> Result<Self> {
        let size = size.unwrap_or(model.preprocessing.size);
        if !SIDES.contains(&size) {
            return refuse(format!("pictures of {size} pixels a side cannot be evaluated; give a size from 8 to 2048"));
        }
        Ok(Self { size, crop })
    }

    /// The side that the shorter side is resized to before an inset crop: 8/7 of the input's, rounded down.
    pub fn inset(size: usize) -> usize {
        size * 8 / 7
    }

    /// The picture as the network sees it.
    pub fn view(self, image: &Image) -> Image {
        let square = Size::square(self.size);
        match self.crop {
            Crop::Inset => resize_and_center_crop(image, Self::inset(self.size), self.size, Filter::Bicubic),
            Crop::Centre | Crop::Whole if image.size() == square => image.clone(),
            Crop::Centre => resize_and_center_crop(image, self.size, self.size, Filter::Bicubic),
            Crop::Whole => resize(image, square, Filter::Bicubic),
        }
    }

    /// For people.
    pub fn describe(self) -> String {
        format!("{0} × {0} pixels, {1} crop", self.size, self.crop.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sides_are_exact() {
        assert_eq!([32, 224, 448].map(Input::inset), [36, 256, 512]);
    }

    #[test]
    fn every_crop_gives_the_square() {
        let image = Image::new(Size { height: 20, width: 33 }, vec![7; 20 * 33 * 3]).unwrap();
        for crop in [Crop::Centre, Crop::Inset, Crop::Whole] {
            assert_eq!(Input { size: 16, crop }.view(&image).size(), Size::square(16));
        }
    }
}
