//! Augmentations: sampling, application and encoding apart, so that parameters can be replayed, logged and swept.

mod crop;
mod flip;
mod grayscale;
mod jitter;

use serde::{Deserialize, Serialize};

pub use crop::RandomResizedCrop;
pub use flip::HorizontalFlip;
pub use grayscale::Grayscale;
pub use jitter::{ColourJitter, Jitter, JitterStep};

use crate::encoding::Encoding;
use crate::image::{Image, Size};
use crate::random::Rng;

/// What one augmentation sampled for one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Params {
    /// A rectangle of the picture, in its pixels.
    Crop {
        /// Row of the upper edge.
        top: usize,
        /// Column of the left edge.
        left: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Whether left and right were exchanged.
    HorizontalFlip(bool),
    /// The jitter, if there was one.
    ColourJitter(Option<Jitter>),
    /// Whether colour was removed.
    Grayscale(bool),
}

/// One random change of a picture.
pub trait Augmentation: Send + Sync {
    /// Draws parameters for a picture of `size`.
    fn sample(&self, size: Size, rng: &mut Rng) -> Params;

    /// Changes a picture as `params` say; parameters of another augmentation change nothing.
    fn apply(&self, image: Image, params: &Params) -> Image;

    /// The parameters that change no pixel of a picture that already has the output's size.
    fn identity(&self, size: Size) -> Params;

    /// Appends the values of `params`, drawn for a picture of `size`, to a parameter vector.
    fn encode(&self, params: &Params, size: Size, encoding: Encoding, out: &mut Vec<f32>);

    /// The names of those values.
    fn names(&self, encoding: Encoding) -> &'static [&'static str];

    /// `(name, value)` of what was done, for people.
    fn describe(&self, params: &Params) -> (String, String);
}

/// An augmentation as data, in a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AugmentationConfig {
    /// A random part of the picture, resized.
    RandomResizedCrop(RandomResizedCrop),
    /// Left and right exchanged.
    HorizontalFlip(HorizontalFlip),
    /// Brightness, contrast, saturation and hue, in random order.
    ColourJitter(ColourJitter),
    /// Colour removed.
    Grayscale(Grayscale),
}

impl AugmentationConfig {
    /// Every augmentation: its name, and one line.
    pub const LIST: [(&'static str, &'static str); 4] = [
        ("random-resized-crop", "a random part of the picture, resized (torchvision's RandomResizedCrop)"),
        ("horizontal-flip", "left and right exchanged"),
        ("colour-jitter", "brightness, contrast, saturation and hue in random order (torchvision's ColorJitter)"),
        ("grayscale", "colour removed"),
    ];

    /// The augmentation.
    pub fn as_augmentation(&self) -> &dyn Augmentation {
        match self {
            Self::RandomResizedCrop(a) => a,
            Self::HorizontalFlip(a) => a,
            Self::ColourJitter(a) => a,
            Self::Grayscale(a) => a,
        }
    }
}

/// 1 or 0.
fn flag(value: bool) -> f32 {
    if value { 1.0 } else { 0.0 }
}

fn yes_or_no(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}
