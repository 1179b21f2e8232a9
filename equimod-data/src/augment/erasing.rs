//! Random erasing of a rectangle.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Augmentation, Encoding, FLAG, Field, Params, Rectangle, SHARE, check_probability, check_range, field, flag, is_on,
};
use crate::color;
use crate::image::{Image, Size};
use crate::plan::{PixelOperation, ViewPlan};
use crate::random::{Rng, chance, uniform};

/// torchvision's `RandomErasing` with a constant value: a rectangle whose area is a share in `scale` of the image and
/// whose height over width is in `ratio` (log-uniform). After ten rectangles that do not fit, nothing is erased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability that it is applied, 0 to 1.
    pub probability: f64,
    /// Range of the rectangle's area as a share of the image. torchvision's default: 0.02–0.33.
    pub scale: (f64, f64),
    /// Range of height over width. torchvision's default: 0.3–3.3.
    pub ratio: (f64, f64),
    /// Fill color: red, green, blue.
    pub value: [u8; 3],
}

const TRIES: usize = 10;

const PUBLISHED: [Field; 5] = [
    field("erasing_applied", FLAG),
    field("erasing_top", "pixels"),
    field("erasing_left", "pixels"),
    field("erasing_height", "pixels"),
    field("erasing_width", "pixels"),
];
const SHARES: [Field; 5] = [
    field("erasing_applied", FLAG),
    field("erasing_center_y", "share of the height"),
    field("erasing_center_x", "share of the width"),
    field("erasing_height_share", "share of the height"),
    field("erasing_width_share", "share of the width"),
];

impl RandomErasing {
    fn attempt(&self, size: Size, rng: &mut Rng) -> Option<Rectangle> {
        let area = size.area() as f64 * uniform(self.scale, rng);
        let ratio = uniform((self.ratio.0.ln(), self.ratio.1.ln()), rng).exp();
        let height = (area * ratio).sqrt().round_ties_even() as usize;
        let width = (area / ratio).sqrt().round_ties_even() as usize;
        if !(1..size.height).contains(&height) || !(1..size.width).contains(&width) {
            return None;
        }
        let top = rng.random_range(0..=size.height - height);
        let left = rng.random_range(0..=size.width - width);
        Some(Rectangle { top, left, height, width })
    }
}

impl Augmentation for RandomErasing {
    fn sample(&self, size: Size, rng: &mut Rng) -> Params {
        let wanted = chance(self.probability, rng);
        Params::Erasing(if wanted { (0..TRIES).find_map(|_| self.attempt(size, rng)) } else { None })
    }

    fn apply(&self, mut image: Image, params: &Params) -> Image {
        if let Params::Erasing(Some(part)) = params {
            color::fill(&mut image, *part, self.value);
        }
        image
    }

    fn plan(&self, params: &Params, plan: &mut ViewPlan) -> bool {
        if let &Params::Erasing(Some(part)) = params {
            let part = part.within(plan.output_size());
            plan.operations.push(PixelOperation::Fill { part, color: self.value });
        }
        true
    }

    fn identity(&self, _: Size) -> Params {
        Params::Erasing(None)
    }

    fn fields(&self, encoding: Encoding) -> &'static [Field] {
        match encoding {
            Encoding::Published => &PUBLISHED,
            Encoding::SizeNormalized | Encoding::Pairwise => &SHARES,
        }
    }

    /// Appends zeros if nothing is erased.
    fn encode(&self, params: &Params, size: Size, encoding: Encoding, out: &mut Vec<f32>) {
        let part = if let Params::Erasing(part) = params { *part } else { None };
        out.push(flag(part.is_some()));
        out.extend(part.map_or([0.0; 4], |part| part.encode(size, encoding)));
    }

    fn decode(&self, values: &[f32], size: Size, encoding: Encoding) -> Params {
        let part = values.get(1..).filter(|_| is_on(values));
        Params::Erasing(part.map(|part| Rectangle::decode(part, size, encoding)))
    }

    fn bounds(&self, encoding: Encoding) -> Vec<(f64, f64)> {
        [SHARE].into_iter().chain(Rectangle::bounds(encoding)).collect()
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::Erasing(Some(rectangle)) => rectangle.to_string(),
            _ => "no".into(),
        };
        ("erasing".into(), text)
    }

    fn problems(&self) -> Vec<String> {
        let scale = check_range("scale", self.scale, 1e-6, 1.0);
        let ratio = check_range("ratio", self.ratio, 1e-3, 1e3);
        [check_probability(self.probability), scale, ratio].into_iter().flatten().collect()
    }
}
