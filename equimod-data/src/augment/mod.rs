//! Augmentations that return what they sampled.
//!
//! `sample`, `apply` and `encode` are separate, so that parameters can be replayed, logged, swept and tested without
//! pixels. Pixel operations are torchvision's on 8-bit Pillow pictures.
//!
//! A new augmentation is one file here and one line in the table at [`AugmentationConfig`]; one that is only on or off
//! says what it does through `Switch`.

mod blur;
mod crop;
mod equalize;
mod erasing;
mod flip;
mod grayscale;
mod jitter;
mod posterize;
mod resize;
mod rotation;
mod solarize;
mod switch;
mod values;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use blur::GaussianBlur;
pub use crop::RandomResizedCrop;
pub use equalize::Equalize;
pub use erasing::RandomErasing;
pub use flip::{HorizontalFlip, VerticalFlip};
pub use grayscale::Grayscale;
pub use jitter::{ColorJitter, Jitter, JitterStep};
pub use posterize::Posterize;
pub use resize::{CenterCrop, Resize};
pub use rotation::{QuarterTurns, Rotation};
pub use solarize::Solarize;
pub use values::{Axis, Encoding, FLAG, Field, Moments};

use crate::image::{Image, Size};
use crate::random::Rng;
pub use crate::rectangle::Rectangle;
use values::field;

/// What one augmentation sampled for one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Params {
    /// Nothing is sampled.
    Fixed,
    /// Whether an operation that is only on or off is done.
    Switch(bool),
    /// A rectangle that is cut out.
    Crop(Rectangle),
    /// The jitter, if there is one.
    #[serde(alias = "colour-jitter")]
    ColorJitter(Option<Jitter>),
    /// The deviation of the blur in pixels, if there is one.
    GaussianBlur(Option<f32>),
    /// Quarter turns against the clock, 0 to 3.
    QuarterTurns(u8),
    /// The angle against the clock in degrees, if there is a rotation.
    Rotation(Option<f32>),
    /// A rectangle that is painted over, if there is one.
    Erasing(Option<Rectangle>),
    /// Numbers whose meaning is the augmentation's own.
    Values(Vec<f32>),
}

impl Rectangle {
    /// Top, left, height and width in pixels, or center and size in shares of a picture of `size` (method, section 8).
    fn encode(&self, size: Size, encoding: Encoding) -> [f32; 4] {
        let [top, left, height, width] = [self.top, self.left, self.height, self.width].map(|v| v as f64);
        let (rows, columns) = (size.height as f64, size.width as f64);
        match encoding {
            Encoding::Published => [top, left, height, width].map(|v| v as f32),
            Encoding::SizeNormalized | Encoding::Pairwise => {
                let center = ((top + height / 2.0) / rows, (left + width / 2.0) / columns);
                [center.0, center.1, height / rows, width / columns].map(|v| v as f32)
            }
        }
    }

    /// Least and largest of what `encode` gives.
    fn bounds(encoding: Encoding) -> [(f64, f64); 4] {
        match encoding {
            Encoding::Published => [(0.0, f64::INFINITY); 4],
            Encoding::SizeNormalized | Encoding::Pairwise => [SHARE; 4],
        }
    }

    /// The inverse of `encode`, cut to the picture.
    fn decode(values: &[f32], size: Size, encoding: Encoding) -> Self {
        let v: [f64; 4] = std::array::from_fn(|i| values.get(i).copied().map_or(0.0, f64::from));
        let (rows, columns) = (size.height as f64, size.width as f64);
        let [top, left, height, width] = match encoding {
            Encoding::Published => v,
            Encoding::SizeNormalized | Encoding::Pairwise => {
                let (height, width) = (v[2] * rows, v[3] * columns);
                [v[0] * rows - height / 2.0, v[1] * columns - width / 2.0, height, width]
            }
        }
        .map(f64::round);
        let whole = Self { top: top as usize, left: left as usize, height: height as usize, width: width as usize };
        whole.within(size)
    }
}

/// One random change of an image.
///
/// [`sample`](Self::sample), [`apply`](Self::apply), [`fields`](Self::fields) and [`encode`](Self::encode) are enough
/// where parameters are [`Params::Values`]; the rest has defaults.
pub trait Augmentation: Send + Sync {
    /// Draws parameters for an image of `size`.
    fn sample(&self, size: Size, rng: &mut Rng) -> Params;

    /// Changes an image as `params` say; [`Params::Fixed`] and parameters of another augmentation change nothing.
    fn apply(&self, image: Image, params: &Params) -> Image;

    /// The values that `encode` appends: their names and units.
    fn fields(&self, encoding: Encoding) -> &'static [Field];

    /// Appends the values of `params`, drawn for an image of `size`, to a parameter vector; of other parameters, those of a
    /// view without the augmentation.
    fn encode(&self, params: &Params, size: Size, encoding: Encoding, out: &mut Vec<f32>);

    /// As `apply`, on an image that is needed further on.
    fn apply_to(&self, image: &Image, params: &Params) -> Image {
        self.apply(image.clone(), params)
    }

    /// The size of the result of `apply` for an image of `size`.
    fn output_size(&self, size: Size, _params: &Params) -> Size {
        size
    }

    /// The axis along which `apply` mirrors an image.
    fn mirrors(&self, _params: &Params) -> Option<Axis> {
        None
    }

    /// The parameters that change no pixel of an image that already has the output's size.
    fn identity(&self, _size: Size) -> Params {
        Params::Fixed
    }

    /// The inverse of `encode`, up to its rounding; values out of range are brought into it.
    fn decode(&self, values: &[f32], _size: Size, _encoding: Encoding) -> Params {
        Params::Values(values.to_vec())
    }

    /// Mean and mean square of each value where they follow from the settings alone; others are sampled.
    fn moments(&self, encoding: Encoding) -> Vec<Option<Moments>> {
        vec![None; self.fields(encoding).len()]
    }

    /// Smallest and largest of each value, that of a view without the augmentation included; infinite where there is no
    /// bound, or where it depends on the size of the image.
    fn bounds(&self, encoding: Encoding) -> Vec<(f64, f64)> {
        vec![(f64::NEG_INFINITY, f64::INFINITY); self.fields(encoding).len()]
    }

    /// `(name, value)` of what was done, for people.
    fn describe(&self, params: &Params) -> (String, String) {
        let fields = self.fields(Encoding::Published);
        let title = fields.first().map_or("augmentation", |field| field.name).replace('_', " ");
        match params {
            Params::Values(values) => {
                let named = fields.iter().zip(values).map(|(field, value)| format!("{} {value:.3}", field.name));
                (title, named.collect::<Vec<_>>().join(", "))
            }
            _ => (title, "no".into()),
        }
    }

    /// Problems of the settings, one sentence each.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

macro_rules! augmentations {
    ($($kind:ident $name:literal $(alias $old:literal)? $about:literal)*) => {
        /// An augmentation as data, in a policy.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum AugmentationConfig {
            $(#[doc = $about] $(#[serde(alias = $old)])? $kind($kind),)*
        }

        impl AugmentationConfig {
            /// Every augmentation: its name, and one line.
            pub const LIST: &[(&str, &str)] = &[$(($name, $about)),*];

            /// The augmentation.
            pub fn as_augmentation(&self) -> &dyn Augmentation {
                match self {
                    $(Self::$kind(augmentation) => augmentation,)*
                }
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }
        }
    };
}

augmentations! {
    RandomResizedCrop "random-resized-crop" "a random part of the picture, resized (torchvision's RandomResizedCrop)"
    Resize "resize" "the shorter side brought to a size (torchvision's Resize)"
    CenterCrop "center-crop" alias "centre-crop" "the middle of the picture (torchvision's CenterCrop)"
    HorizontalFlip "horizontal-flip" "left and right exchanged (torchvision's RandomHorizontalFlip)"
    VerticalFlip "vertical-flip" "top and bottom exchanged (torchvision's RandomVerticalFlip)"
    ColorJitter "color-jitter" alias "colour-jitter" "brightness, contrast, saturation and hue in random order (torchvision's ColorJitter)"
    Grayscale "grayscale" "color removed (torchvision's RandomGrayscale)"
    GaussianBlur "gaussian-blur" "a blur of random width (torchvision's GaussianBlur)"
    Solarize "solarize" "values from a threshold on inverted (torchvision's RandomSolarize)"
    Posterize "posterize" "the lower bits of every value removed (torchvision's RandomPosterize)"
    Equalize "equalize" alias "equalise" "the histogram of each channel flattened (torchvision's RandomEqualize)"
    QuarterTurns "quarter-turns" "0, 90, 180 or 270 degrees against the clock (E-SSL, arXiv 2111.00899)"
    Rotation "rotation" "a random angle, bilinear, black corners (torchvision's RandomRotation)"
    RandomErasing "random-erasing" "a random rectangle painted over (torchvision's RandomErasing)"
}

/// The bounds of a flag, and of a share.
const SHARE: (f64, f64) = (0.0, 1.0);

/// The bounds of a value that is in a range or, without the augmentation, `neutral`.
fn with_neutral((low, high): (f64, f64), neutral: f64) -> (f64, f64) {
    (low.min(neutral), high.max(neutral))
}

/// 1 or 0.
fn flag(value: bool) -> f32 {
    if value { 1.0 } else { 0.0 }
}

/// The inverse of [`flag`].
fn is_on(values: &[f32]) -> bool {
    values.first().is_some_and(|&value| value >= 0.5)
}

fn yes_or_no(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

/// What is wrong with a probability.
fn check_probability(probability: f64) -> Option<String> {
    (!(0.0..=1.0).contains(&probability)).then(|| format!("probability is {probability}; give a number from 0 to 1"))
}

/// What is wrong with a range that must lie within `[least, most]`.
fn check_range(name: &str, (low, high): (f64, f64), least: f64, most: f64) -> Option<String> {
    let fine = least <= low && low <= high && high <= most;
    (!fine).then(|| format!("{name} is {low} to {high}; give two numbers from {least} to {most}, the smaller first"))
}

/// Longest side that views can have, in pixels.
const LONGEST_VIEW: usize = 4096;

/// What is wrong with a side in pixels.
fn check_side(side: usize) -> Option<String> {
    let fine = (1..=LONGEST_VIEW).contains(&side);
    (!fine).then(|| format!("size is {side}; give a side from 1 to {LONGEST_VIEW} pixels"))
}
