//! Color jitter: brightness, contrast, saturation and hue, in random order.

use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Encoding, FLAG, Field, Moments, Params, SHARE, check_probability, field, flag, is_on};
use crate::image::{Image, Size};
use crate::plan::{PixelOperation, ViewPlan};
use crate::random::{Rng, chance, uniform};

/// torchvision's `ColorJitter` inside a `RandomApply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// Probability that the jitter is applied, 0 to 1. Published: 0.8.
    pub probability: f64,
    /// Strength s of the brightness factor, which is uniform in [max(0, 1 − s), 1 + s]. Published: 0.4 on CIFAR-10, 0.8
    /// on ImageNet (SimCLR).
    pub brightness: f64,
    /// Strength of the contrast factor, as for brightness.
    pub contrast: f64,
    /// Strength of the saturation factor, as for brightness.
    pub saturation: f64,
    /// Largest hue shift h as a share of the full circle; the shift is uniform in [−h, h]. Published: 0.1 on CIFAR-10,
    /// 0.2 on ImageNet (SimCLR).
    pub hue: f64,
}

/// One of the four operations of a color jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitterStep {
    /// Brightness; 0 in the published encoding.
    Brightness,
    /// Contrast; 1 in the published encoding.
    Contrast,
    /// Saturation; 2 in the published encoding.
    Saturation,
    /// Hue; 3 in the published encoding.
    Hue,
}

const STEPS: [JitterStep; 4] = [JitterStep::Brightness, JitterStep::Contrast, JitterStep::Saturation, JitterStep::Hue];

/// Sampled parameters of a color jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jitter {
    /// Order in which the operations are applied.
    pub order: [JitterStep; 4],
    /// Brightness factor; 1 is the identity.
    pub brightness: f32,
    /// Contrast factor; 1 is the identity.
    pub contrast: f32,
    /// Saturation factor; 1 is the identity.
    pub saturation: f32,
    /// Hue shift as a share of the full circle; 0 is the identity.
    pub hue: f32,
}

impl Jitter {
    /// Parameters that change nothing.
    const NEUTRAL: Self = Self { order: STEPS, brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 };

    /// The operations in the order in which they are applied.
    fn operations(&self) -> impl Iterator<Item = PixelOperation> {
        let operation = |step| match step {
            JitterStep::Brightness => Some(PixelOperation::Brightness(self.brightness)),
            JitterStep::Contrast => Some(PixelOperation::Contrast(self.contrast)),
            JitterStep::Saturation => Some(PixelOperation::Saturation(self.saturation)),
            // Even a hue shift of 0 would round the values on the way to HSV and back; torchvision skips it, too.
            JitterStep::Hue => (self.hue != 0.0).then_some(PixelOperation::Hue(self.hue)),
        };
        self.order.into_iter().filter_map(operation)
    }
}

const FIELDS: [Field; 9] = [
    field("jitter_applied", FLAG),
    field("jitter_order_0", "0 brightness, 1 contrast, 2 saturation, 3 hue"),
    field("jitter_order_1", "as jitter_order_0"),
    field("jitter_order_2", "as jitter_order_0"),
    field("jitter_order_3", "as jitter_order_0"),
    field("brightness", "factor"),
    field("contrast", "factor"),
    field("saturation", "factor"),
    field("hue", "share of the circle"),
];

/// Range of a factor with strength s: [max(0, 1 − s), 1 + s].
fn factors(strength: f64) -> (f64, f64) {
    ((1.0 - strength).max(0.0), 1.0 + strength)
}

impl Augmentation for ColorJitter {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        if !chance(self.probability, rng) {
            return Params::ColorJitter(None);
        }
        let mut order = STEPS;
        order.shuffle(rng);
        let mut factor = |strength: f64| uniform(factors(strength), rng) as f32;
        let (brightness, contrast, saturation) =
            (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = uniform((-self.hue, self.hue), rng) as f32;
        Params::ColorJitter(Some(Jitter { order, brightness, contrast, saturation, hue }))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        let Params::ColorJitter(Some(jitter)) = params else { return image };
        jitter.operations().fold(image, |image, operation| operation.apply(image))
    }

    fn plan(&self, params: &Params, plan: &mut ViewPlan) -> bool {
        if let Params::ColorJitter(Some(jitter)) = params {
            plan.operations.extend(jitter.operations());
        }
        true
    }

    fn identity(&self, _: Size) -> Params {
        Params::ColorJitter(None)
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        &FIELDS
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        let jitter = if let Params::ColorJitter(jitter) = params { *jitter } else { None };
        out.push(flag(jitter.is_some()));
        let jitter = jitter.unwrap_or(Jitter::NEUTRAL);
        out.extend(jitter.order.map(|step| step as u8 as f32));
        out.extend([jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue]);
    }

    fn decode(&self, values: &[f32], _: Size, _: Encoding) -> Params {
        let &[_, a, b, c, d, brightness, contrast, saturation, hue] = values else { return Params::ColorJitter(None) };
        let order = [a, b, c, d].map(|step| STEPS[step.round().clamp(0.0, 3.0) as usize]);
        Params::ColorJitter(is_on(values).then_some(Jitter { order, brightness, contrast, saturation, hue }))
    }

    fn moments(&self, _: Encoding) -> Vec<Option<Moments>> {
        let p = self.probability;
        let order = |place: usize| Moments::mix(p, Moments::one_of(4), Moments::constant(place as f64));
        let factor = |s: f64| Moments::mix(p, Moments::uniform(factors(s)), Moments::constant(1.0));
        let hue = Moments::mix(p, Moments::uniform((-self.hue, self.hue)), Moments::constant(0.0));
        let mut moments = vec![Moments::flag(p), order(0), order(1), order(2), order(3)];
        moments.extend([factor(self.brightness), factor(self.contrast), factor(self.saturation), hue]);
        moments.into_iter().map(Some).collect()
    }

    fn bounds(&self, _: Encoding) -> Vec<(f64, f64)> {
        let places = [(0.0, (STEPS.len() - 1) as f64); STEPS.len()];
        let factors = [self.brightness, self.contrast, self.saturation].map(factors);
        [SHARE].into_iter().chain(places).chain(factors).chain([(-self.hue, self.hue)]).collect()
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::ColorJitter(Some(jitter)) => {
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
        ("color jitter".into(), text)
    }

    fn problems(&self) -> Vec<String> {
        let strengths = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        let wrong = |(name, s): (&str, f64)| {
            (!(0.0..=10.0).contains(&s)).then(|| format!("{name} is {s}; give a strength from 0 to 10"))
        };
        let hue =
            (!(0.0..=0.5).contains(&self.hue)).then(|| format!("hue is {}; give a share from 0 to 0.5", self.hue));
        check_probability(self.probability)
            .into_iter()
            .chain(strengths.into_iter().filter_map(wrong))
            .chain(hue)
            .collect()
    }
}
