//! Random crop of the image, resized.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Axis, Encoding, Field, Params, Rectangle, check_range, check_side, field};
use crate::image::{Image, Size};
use crate::plan::ViewPlan;
use crate::random::{Rng, uniform};
use crate::resample::{Filter, resize_part};

/// torchvision's `RandomResizedCrop`: a rectangle whose area is a share in `scale` of the image and whose aspect ratio
/// is in `ratio` (log-uniform), resized to a square of side `size`. After ten rectangles that do not fit, the largest
/// centered rectangle with an aspect ratio in `ratio` is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Side of the output, in pixels.
    pub size: usize,
    /// Range of the crop's area as a share of the image. Published: 0.2–1 on CIFAR-10, 0.08–1 on ImageNet.
    pub scale: (f64, f64),
    /// Range of the aspect ratio, width over height. Published: 3/4–4/3.
    pub ratio: (f64, f64),
    /// Interpolation filter. Published: bicubic.
    pub filter: Filter,
}

const TRIES: usize = 10;

const PUBLISHED: [Field; 4] = [
    field("crop_top", "pixels"),
    field("crop_left", "pixels"),
    field("crop_height", "pixels"),
    field("crop_width", "pixels"),
];
const SHARES: [Field; 4] = [
    field("crop_center_y", "share of the height").along(Axis::Y),
    field("crop_center_x", "share of the width").along(Axis::X),
    field("crop_height_share", "share of the height"),
    field("crop_width_share", "share of the width"),
];

impl RandomResizedCrop {
    fn attempt(&self, size: Size, rng: &mut Rng) -> Option<Rectangle> {
        let area = size.area() as f64 * uniform(self.scale, rng);
        let ratio = uniform((self.ratio.0.ln(), self.ratio.1.ln()), rng).exp();
        // Python rounds halves to even.
        let width = (area * ratio).sqrt().round_ties_even() as usize;
        let height = (area / ratio).sqrt().round_ties_even() as usize;
        if !(1..=size.width).contains(&width) || !(1..=size.height).contains(&height) {
            return None;
        }
        let top = rng.random_range(0..=size.height - height);
        let left = rng.random_range(0..=size.width - width);
        Some(Rectangle { top, left, height, width })
    }

    fn middle(&self, size: Size) -> Rectangle {
        let ratio = size.width as f64 / size.height as f64;
        let (width, height) = if ratio < self.ratio.0 {
            (size.width, (size.width as f64 / self.ratio.0).round_ties_even() as usize)
        } else if ratio > self.ratio.1 {
            ((size.height as f64 * self.ratio.1).round_ties_even() as usize, size.height)
        } else {
            (size.width, size.height)
        };
        let (width, height) = (width.clamp(1, size.width), height.clamp(1, size.height));
        Rectangle { top: (size.height - height) / 2, left: (size.width - width) / 2, height, width }
    }
}

impl Augmentation for RandomResizedCrop {
    fn sample(&self, size: Size, rng: &mut Rng) -> Params {
        let found = (0..TRIES).find_map(|_| self.attempt(size, rng));
        Params::Crop(found.unwrap_or_else(|| self.middle(size)))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        self.apply_to(&image, params)
    }

    fn apply_to(&self, image: &Image, params: &Params) -> Image {
        let Params::Crop(part) = params else { return image.clone() };
        let target = Size::square(self.size);
        let part = part.within(image.size());
        if part == Rectangle::whole(image.size()) && target == image.size() {
            return image.clone();
        }
        resize_part(image, part, target, self.filter)
    }

    fn plan(&self, params: &Params, plan: &mut ViewPlan) -> bool {
        if let &Params::Crop(part) = params {
            *plan = ViewPlan::crop(plan.output_size(), part, Size::square(self.size), self.filter);
        }
        true
    }

    fn output_size(&self, _: Size, _: &Params) -> Size {
        Size::square(self.size)
    }

    fn identity(&self, size: Size) -> Params {
        Params::Crop(Rectangle::whole(size))
    }

    fn fields(&self, encoding: Encoding) -> &'static [Field] {
        match encoding {
            Encoding::Published => &PUBLISHED,
            Encoding::SizeNormalized | Encoding::Pairwise => &SHARES,
        }
    }

    fn encode(&self, params: &Params, size: Size, encoding: Encoding, out: &mut Vec<f32>) {
        let part = if let Params::Crop(part) = params { *part } else { Rectangle::whole(size) };
        out.extend(part.encode(size, encoding));
    }

    fn decode(&self, values: &[f32], size: Size, encoding: Encoding) -> Params {
        Params::Crop(Rectangle::decode(values, size, encoding))
    }

    fn bounds(&self, encoding: Encoding) -> Vec<(f64, f64)> {
        Rectangle::bounds(encoding).into()
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::Crop(rectangle) => rectangle.to_string(),
            _ => String::new(),
        };
        ("crop".into(), text)
    }

    fn problems(&self) -> Vec<String> {
        let ratio = check_range("ratio", self.ratio, 1e-3, 1e3);
        let scale = check_range("scale", self.scale, 1e-6, 1.0);
        [check_side(self.size), scale, ratio].into_iter().flatten().collect()
    }
}
