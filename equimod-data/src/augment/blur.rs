//! Gaussian blur with a random standard deviation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Augmentation, Encoding, FLAG, Field, Moments, Params, SHARE, check_probability, check_range, field, flag, is_on,
    with_neutral,
};
use crate::blur::gaussian_blur;
use crate::image::{Image, Size};
use crate::plan::{PixelOperation, ViewPlan};
use crate::random::{Rng, chance, uniform};

/// torchvision's `GaussianBlur` inside a `RandomApply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Probability that the blur is applied, 0 to 1. Published: 0.5 (SimCLR on ImageNet), 1.0 and 0.1 (BYOL's views).
    pub probability: f64,
    /// Side of the kernel in pixels, odd. Published: 2·round((x − 10)/20) + 1 for views of x pixels.
    pub kernel: usize,
    /// Range of the standard deviation in pixels, sampled uniformly. Published: 0.1–2.
    pub sigma: (f64, f64),
}

/// Upper limit of the kernel's side, in pixels.
const LARGEST_KERNEL: usize = 255;

const FIELDS: [Field; 2] = [field("blur_applied", FLAG), field("blur_sigma", "pixels")];

impl GaussianBlur {
    /// Published side of the kernel for views of `size` pixels.
    pub fn published_kernel(size: usize) -> usize {
        // Python rounds halves to even.
        let half = ((size as f64 - 10.0) / 20.0).round_ties_even().max(0.0) as usize;
        2 * half + 1
    }
}

impl Augmentation for GaussianBlur {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        Params::GaussianBlur(chance(self.probability, rng).then(|| uniform(self.sigma, rng) as f32))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        match params {
            &Params::GaussianBlur(Some(sigma)) => gaussian_blur(&image, self.kernel, sigma),
            _ => image,
        }
    }

    fn plan(&self, params: &Params, plan: &mut ViewPlan) -> bool {
        if let &Params::GaussianBlur(Some(sigma)) = params {
            plan.operations.push(PixelOperation::Blur { kernel: self.kernel, sigma });
        }
        true
    }

    fn identity(&self, _: Size) -> Params {
        Params::GaussianBlur(None)
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        &FIELDS
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        let sigma = if let Params::GaussianBlur(sigma) = params { *sigma } else { None };
        out.extend([flag(sigma.is_some()), sigma.unwrap_or(0.0)]);
    }

    fn decode(&self, values: &[f32], _: Size, _: Encoding) -> Params {
        Params::GaussianBlur(values.get(1).copied().filter(|&sigma| is_on(values) && sigma > 0.0))
    }

    fn moments(&self, _: Encoding) -> Vec<Option<Moments>> {
        let sigma = Moments::mix(self.probability, Moments::uniform(self.sigma), Moments::constant(0.0));
        vec![Some(Moments::flag(self.probability)), Some(sigma)]
    }

    fn bounds(&self, _: Encoding) -> Vec<(f64, f64)> {
        vec![SHARE, with_neutral(self.sigma, 0.0)]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::GaussianBlur(Some(sigma)) => format!("sigma {sigma:.2}"),
            _ => "no".into(),
        };
        ("blur".into(), text)
    }

    fn problems(&self) -> Vec<String> {
        let fine = self.kernel % 2 == 1 && self.kernel <= LARGEST_KERNEL;
        let kernel = (!fine).then(|| format!("kernel is {}; give an odd number up to {LARGEST_KERNEL}", self.kernel));
        let sigma = check_range("sigma", self.sigma, 1e-3, 1e3);
        [check_probability(self.probability), kernel, sigma].into_iter().flatten().collect()
    }
}
