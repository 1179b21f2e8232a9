//! Augmentations that return the parameters they sampled.
//!
//! `sample`, `apply` and `encode` are separate, so that parameters can be replayed, logged, swept and tested without
//! pixels. Pixel operations match torchvision's on 8-bit Pillow images.
//!
//! A new augmentation is one file here and one line in the table at [`AugmentationConfig`]. An augmentation that is
//! only on or off implements `Switch`. One of another crate is [registered](register).

mod blur;
mod crop;
mod equalize;
mod erasing;
mod flip;
mod grayscale;
mod jitter;
mod posterize;
mod registered;
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
pub use registered::{AugmentationKind, RegisteredAugmentation, register};
pub use resize::{CenterCrop, Resize};
pub use rotation::{QuarterTurns, Rotation};
pub use solarize::Solarize;
pub use values::{Axis, Encoding, FLAG, Field, Moments};

use crate::image::{Image, Size};
use crate::plan::ViewPlan;
use crate::random::Rng;
pub use crate::rectangle::Rectangle;
use values::field;

/// Parameters that one augmentation sampled for one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Params {
    /// No parameters: the augmentation is not random.
    Fixed,
    /// Whether an operation without further parameters is applied.
    Switch(bool),
    /// Rectangle that is cropped.
    Crop(Rectangle),
    /// Color jitter, if it is applied.
    #[serde(alias = "colour-jitter")]
    ColorJitter(Option<Jitter>),
    /// Standard deviation of the blur in pixels, if it is applied.
    GaussianBlur(Option<f32>),
    /// Number of counterclockwise quarter turns, 0 to 3.
    QuarterTurns(u8),
    /// Counterclockwise angle in degrees, if a rotation is applied.
    Rotation(Option<f32>),
    /// Rectangle that is erased, if any.
    Erasing(Option<Rectangle>),
    /// Numbers whose meaning the augmentation defines.
    Values(Vec<f32>),
}

impl Rectangle {
    /// Encodes the rectangle as top, left, height and width in pixels, or as center and size in shares of an image of
    /// `size`.
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

    /// Lower and upper bound of each value of `encode`.
    fn bounds(encoding: Encoding) -> [(f64, f64); 4] {
        match encoding {
            Encoding::Published => [(0.0, f64::INFINITY); 4],
            Encoding::SizeNormalized | Encoding::Pairwise => [SHARE; 4],
        }
    }

    /// Inverse of `encode`, clipped to the image.
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

/// A random transformation of an image.
///
/// Only [`sample`](Self::sample), [`apply`](Self::apply), [`fields`](Self::fields) and [`encode`](Self::encode) are
/// required if the parameters are [`Params::Values`]; the other methods have defaults.
pub trait Augmentation: Send + Sync {
    /// Samples parameters for an image of `size`.
    fn sample(&self, size: Size, rng: &mut Rng) -> Params;

    /// Applies `params` to an image. [`Params::Fixed`] and parameters of another augmentation leave it unchanged.
    fn apply(&self, image: Image, params: &Params) -> Image;

    /// Names and units of the values that `encode` appends.
    fn fields(&self, encoding: Encoding) -> &'static [Field];

    /// Appends the values of `params`, sampled for an image of `size`, to a parameter vector. For parameters of another
    /// augmentation, it appends the values of a view without this augmentation.
    fn encode(&self, params: &Params, size: Size, encoding: Encoding, out: &mut Vec<f32>);

    /// Like `apply`, for an image that the caller keeps.
    fn apply_to(&self, image: &Image, params: &Params) -> Image {
        self.apply(image.clone(), params)
    }

    /// Adds what `apply` does to the plan of a view, which crops replace. Returns false if a plan cannot express it.
    fn plan(&self, _params: &Params, _plan: &mut ViewPlan) -> bool {
        false
    }

    /// Size of the output of `apply` for an image of `size`.
    fn output_size(&self, size: Size, _params: &Params) -> Size {
        size
    }

    /// Axis along which `apply` mirrors an image, if any.
    fn mirrors(&self, _params: &Params) -> Option<Axis> {
        None
    }

    /// Parameters that leave an image unchanged if it already has the output's size.
    fn identity(&self, _size: Size) -> Params {
        Params::Fixed
    }

    /// Inverse of `encode`, up to rounding. Values out of range are clipped.
    fn decode(&self, values: &[f32], _size: Size, _encoding: Encoding) -> Params {
        Params::Values(values.to_vec())
    }

    /// Mean and mean square of each value where the settings determine them; the others are estimated by sampling.
    fn moments(&self, encoding: Encoding) -> Vec<Option<Moments>> {
        vec![None; self.fields(encoding).len()]
    }

    /// Lower and upper bound of each value, including its value in a view without the augmentation. Bounds are infinite
    /// if there are none, or if they depend on the size of the image.
    fn bounds(&self, encoding: Encoding) -> Vec<(f64, f64)> {
        vec![(f64::NEG_INFINITY, f64::INFINITY); self.fields(encoding).len()]
    }

    /// Human-readable `(name, value)` of an application with `params`.
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

    /// Problems of the settings, one sentence each; empty if they are valid.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

macro_rules! augmentations {
    ($($kind:ident $name:literal $(alias $old:literal)? $about:literal)*) => {
        /// Configuration of an augmentation in a policy.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(remote = "Self", tag = "kind", rename_all = "kebab-case")]
        #[schemars(transform = registered::add_to_schema)]
        pub enum AugmentationConfig {
            $(#[doc = $about] $(#[serde(alias = $old)])? $kind($kind),)*
            /// An augmentation of another crate.
            #[serde(skip)]
            Registered(RegisteredAugmentation),
        }

        impl AugmentationConfig {
            /// Name and one-line description of every built-in augmentation.
            pub const LIST: &[(&str, &str)] = &[$(($name, $about)),*];

            /// Whether a built-in augmentation has or had this name.
            fn is_built_in(name: &str) -> bool {
                [$($name, $($old,)?)*].contains(&name)
            }

            /// Name and one-line description of every augmentation, including registered ones.
            pub fn list() -> Vec<(&'static str, &'static str)> {
                Self::LIST.iter().copied().chain(registered::registered()).collect()
            }

            /// The augmentation as a trait object.
            pub fn as_augmentation(&self) -> &dyn Augmentation {
                match self {
                    $(Self::$kind(augmentation) => augmentation,)*
                    Self::Registered(augmentation) => augmentation.as_augmentation(),
                }
            }

            /// Name of the augmentation in recipes.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$kind(_) => $name,)*
                    Self::Registered(augmentation) => augmentation.name(),
                }
            }
        }
    };
}

augmentations! {
    RandomResizedCrop "random-resized-crop" "random crop, resized (torchvision's RandomResizedCrop)"
    Resize "resize" "resize of the shorter side (torchvision's Resize)"
    CenterCrop "center-crop" alias "centre-crop" "crop of the center (torchvision's CenterCrop)"
    HorizontalFlip "horizontal-flip" "random horizontal flip (torchvision's RandomHorizontalFlip)"
    VerticalFlip "vertical-flip" "random vertical flip (torchvision's RandomVerticalFlip)"
    ColorJitter "color-jitter" alias "colour-jitter" "color changes in random order (torchvision's ColorJitter)"
    Grayscale "grayscale" alias "greyscale" "random conversion to grayscale (torchvision's RandomGrayscale)"
    GaussianBlur "gaussian-blur" "Gaussian blur with a random sigma (torchvision's GaussianBlur)"
    Solarize "solarize" "inversion of values at or above a threshold (torchvision's RandomSolarize)"
    Posterize "posterize" "fewer bits per channel (torchvision's RandomPosterize)"
    Equalize "equalize" alias "equalise" "histogram equalization of each channel (torchvision's RandomEqualize)"
    QuarterTurns "quarter-turns" "rotation by 0, 90, 180 or 270 degrees counterclockwise (E-SSL, arXiv 2111.00899)"
    Rotation "rotation" "rotation by a random angle, bilinear, black corners (torchvision's RandomRotation)"
    RandomErasing "random-erasing" "erasing of a random rectangle (torchvision's RandomErasing)"
}

/// Bounds of a flag or a share.
const SHARE: (f64, f64) = (0.0, 1.0);

/// Bounds of a value in a range that is `neutral` without the augmentation.
fn with_neutral((low, high): (f64, f64), neutral: f64) -> (f64, f64) {
    (low.min(neutral), high.max(neutral))
}

/// A flag as a number: 1 or 0.
fn flag(value: bool) -> f32 {
    if value { 1.0 } else { 0.0 }
}

/// Inverse of [`flag`].
fn is_on(values: &[f32]) -> bool {
    values.first().is_some_and(|&value| value >= 0.5)
}

fn yes_or_no(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

/// The problem of a probability, if it is not in [0, 1].
fn check_probability(probability: f64) -> Option<String> {
    (!(0.0..=1.0).contains(&probability)).then(|| format!("probability is {probability}; give a number from 0 to 1"))
}

/// The problem of a range, if it is not ordered and within `[least, most]`.
fn check_range(name: &str, (low, high): (f64, f64), least: f64, most: f64) -> Option<String> {
    let fine = least <= low && low <= high && high <= most;
    (!fine).then(|| format!("{name} is {low} to {high}; give two numbers from {least} to {most}, the smaller first"))
}

/// Longest side of a view, in pixels.
const LONGEST_VIEW: usize = 4096;

/// The problem of a side in pixels, if it is out of range.
fn check_side(side: usize) -> Option<String> {
    let fine = (1..=LONGEST_VIEW).contains(&side);
    (!fine).then(|| format!("size is {side}; give a side from 1 to {LONGEST_VIEW} pixels"))
}
