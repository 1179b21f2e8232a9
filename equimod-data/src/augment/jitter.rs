//! Brightness, contrast, saturation and hue, in random order.

use rand::Rng as _;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Params, flag};
use crate::colour;
use crate::encoding::Encoding;
use crate::image::{Image, Size};
use crate::random::Rng;

/// torchvision's `ColorJitter` inside a `RandomApply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourJitter {
    /// How often there is any. Published: 0.8.
    pub probability: f64,
    /// s of the factor in U(1 − s, 1 + s). Published: 0.4 on CIFAR-10, 0.8 on ImageNet (SimCLR).
    pub brightness: f64,
    /// As brightness.
    pub contrast: f64,
    /// As brightness.
    pub saturation: f64,
    /// h of the shift in U(−h, h), as a share of the full circle. Published: 0.1 on CIFAR-10, 0.2 on ImageNet (SimCLR).
    pub hue: f64,
}

/// One of the four operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitterStep {
    /// 0 in the published encoding.
    Brightness,
    /// 1.
    Contrast,
    /// 2.
    Saturation,
    /// 3.
    Hue,
}

const STEPS: [JitterStep; 4] = [JitterStep::Brightness, JitterStep::Contrast, JitterStep::Saturation, JitterStep::Hue];

/// A sampled jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jitter {
    /// The operations in the order in which they are done.
    pub order: [JitterStep; 4],
    /// Factor; 1 changes nothing.
    pub brightness: f32,
    /// Factor; 1 changes nothing.
    pub contrast: f32,
    /// Factor; 1 changes nothing.
    pub saturation: f32,
    /// Share of the full circle; 0 changes nothing.
    pub hue: f32,
}

impl Augmentation for ColourJitter {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        if !rng.random_bool(self.probability) {
            return Params::ColourJitter(None);
        }
        let mut order = STEPS;
        order.shuffle(rng);
        let mut factor = |s: f64| rng.random_range((1.0 - s).max(0.0) as f32..=(1.0 + s) as f32);
        let (brightness, contrast, saturation) =
            (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = rng.random_range(-self.hue as f32..=self.hue as f32);
        Params::ColourJitter(Some(Jitter { order, brightness, contrast, saturation, hue }))
    }

    fn apply(&self, mut image: Image, params: &Params) -> Image {
        if let Params::ColourJitter(Some(jitter)) = params {
            for step in jitter.order {
                match step {
                    JitterStep::Brightness => colour::brightness(&mut image, jitter.brightness),
                    JitterStep::Contrast => colour::contrast(&mut image, jitter.contrast),
                    JitterStep::Saturation => colour::saturation(&mut image, jitter.saturation),
                    JitterStep::Hue => colour::hue(&mut image, jitter.hue),
                }
            }
        }
        image
    }

    fn identity(&self, _: Size) -> Params {
        Params::ColourJitter(None)
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        let (jitter, applied) = match params {
            Params::ColourJitter(Some(jitter)) => (*jitter, true),
            _ => (Jitter { order: STEPS, brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 }, false),
        };
        out.push(flag(applied));
        out.extend(jitter.order.map(|step| step as u8 as f32));
        out.extend([jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue]);
    }

    fn names(&self, _: Encoding) -> &'static [&'static str] {
        &[
            "jitter_applied",
            "jitter_order_0",
            "jitter_order_1",
            "jitter_order_2",
            "jitter_order_3",
            "brightness",
            "contrast",
            "saturation",
            "hue",
        ]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::ColourJitter(Some(jitter)) => {
                let step = |step: &JitterStep| match step {
                    JitterStep::Brightness => format!("brightness × {:.2}", jitter.brightness),
                    JitterStep::Contrast => format!("contrast × {:.2}", jitter.contrast),
                    JitterStep::Saturation => format!("saturation × {:.2}", jitter.saturation),
                    JitterStep::Hue => format!("hue {:+.3}", jitter.hue),
                };
                jitter.order.iter().map(step).collect::<Vec<_>>().join(", ")
            }
            _ => "no".into(),
        };
        ("colour jitter".into(), text)
    }
}
