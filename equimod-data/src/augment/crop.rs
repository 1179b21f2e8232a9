//! A random part of the picture, resized.

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Params};
use crate::encoding::Encoding;
use crate::image::{Image, Size};
use crate::random::Rng;
use crate::resample::{Filter, crop, resize};

/// torchvision's `RandomResizedCrop`: a rectangle with a share of the area in `scale` and an aspect ratio in `ratio`
/// (uniform in the logarithm), resized to a square of `size`. After ten misses the largest fitting middle is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Side of the result, in pixels.
    pub size: usize,
    /// Least and largest share of the area. Published: 0.2–1 on CIFAR-10, 0.08–1 on ImageNet.
    pub scale: (f64, f64),
    /// Least and largest width over height. Published: 3/4–4/3.
    pub ratio: (f64, f64),
    /// Interpolation. Published: bicubic.
    pub filter: Filter,
}

const TRIES: usize = 10;

impl RandomResizedCrop {
    fn attempt(&self, size: Size, rng: &mut Rng) -> Option<Params> {
        let area = size.area() as f64 * rng.random_range(self.scale.0..=self.scale.1);
        let ratio = rng.random_range(self.ratio.0.ln()..=self.ratio.1.ln()).exp();
        // Python rounds halves to even.
        let width = (area * ratio).sqrt().round_ties_even() as usize;
        let height = (area / ratio).sqrt().round_ties_even() as usize;
        if !(1..=size.width).contains(&width) || !(1..=size.height).contains(&height) {
            return None;
        }
        let top = rng.random_range(0..=size.height - height);
        let left = rng.random_range(0..=size.width - width);
        Some(Params::Crop { top, left, height, width })
    }

    fn middle(&self, size: Size) -> Params {
        let ratio = size.width as f64 / size.height as f64;
        let (width, height) = if ratio < self.ratio.0 {
            (size.width, (size.width as f64 / self.ratio.0).round_ties_even() as usize)
        } else if ratio > self.ratio.1 {
            ((size.height as f64 * self.ratio.1).round_ties_even() as usize, size.height)
        } else {
            (size.width, size.height)
        };
        let (width, height) = (width.clamp(1, size.width), height.clamp(1, size.height));
        Params::Crop { top: (size.height - height) / 2, left: (size.width - width) / 2, height, width }
    }
}

impl Augmentation for RandomResizedCrop {
    fn sample(&self, size: Size, rng: &mut Rng) -> Params {
        (0..TRIES).find_map(|_| self.attempt(size, rng)).unwrap_or_else(|| self.middle(size))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        let &Params::Crop { top, left, height, width } = params else { return image };
        let part = match (Size { height, width }) == image.size() {
            true => image,
            false => crop(&image, top, left, Size { height, width }),
        };
        match part.size() == Size::square(self.size) {
            true => part,
            false => resize(&part, Size::square(self.size), self.filter),
        }
    }

    fn identity(&self, size: Size) -> Params {
        Params::Crop { top: 0, left: 0, height: size.height, width: size.width }
    }

    fn encode(&self, params: &Params, size: Size, encoding: Encoding, out: &mut Vec<f32>) {
        let &Params::Crop { top, left, height, width } = params else { return };
        let [top, left, height, width] = [top, left, height, width].map(|v| v as f64);
        let (rows, columns) = (size.height as f64, size.width as f64);
        out.extend(match encoding {
            Encoding::Published => [top, left, height, width].map(|v| v as f32),
            Encoding::SizeNormalised => [
                ((top + height / 2.0) / rows) as f32,
                ((left + width / 2.0) / columns) as f32,
                (height / rows) as f32,
                (width / columns) as f32,
            ],
        });
    }

    fn names(&self, encoding: Encoding) -> &'static [&'static str] {
        match encoding {
            Encoding::Published => &["crop_top", "crop_left", "crop_height", "crop_width"],
            Encoding::SizeNormalised => &["crop_centre_y", "crop_centre_x", "crop_height_share", "crop_width_share"],
        }
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::Crop { top, left, height, width } => format!("{height} × {width} at ({top}, {left})"),
            _ => String::new(),
        };
        ("crop".into(), text)
    }
}
