//! Quarter turns, and rotation by an angle.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Augmentation, Encoding, FLAG, Field, Moments, Params, SHARE, check_probability, check_range, field, flag, is_on,
    with_neutral,
};
use crate::image::{Image, Size};
use crate::random::{Rng, chance, uniform};
use crate::rotate::{quarter_turns, rotate};

/// Rotation by 0, 90, 180 or 270 degrees counterclockwise, with equal probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarterTurns {}

impl Augmentation for QuarterTurns {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        Params::QuarterTurns(rng.random_range(0..4))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        match params {
            &Params::QuarterTurns(turns) => quarter_turns(image, turns),
            _ => image,
        }
    }

    fn output_size(&self, size: Size, params: &Params) -> Size {
        match params {
            Params::QuarterTurns(turns) if turns % 2 == 1 => Size { height: size.width, width: size.height },
            _ => size,
        }
    }

    fn identity(&self, _: Size) -> Params {
        Params::QuarterTurns(0)
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        const { &[field("quarter_turns", "90 degrees counterclockwise")] }
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        out.push(if let Params::QuarterTurns(turns) = params { f32::from(turns % 4) } else { 0.0 });
    }

    fn decode(&self, values: &[f32], _: Size, _: Encoding) -> Params {
        Params::QuarterTurns(values.first().map_or(0, |turns| turns.round().clamp(0.0, 3.0) as u8))
    }

    fn moments(&self, _: Encoding) -> Vec<Option<Moments>> {
        vec![Some(Moments::one_of(4))]
    }

    fn bounds(&self, _: Encoding) -> Vec<(f64, f64)> {
        vec![(0.0, 3.0)]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let turns = if let Params::QuarterTurns(turns) = params { turns % 4 } else { 0 };
        ("quarter turns".into(), format!("{}°", u32::from(turns) * 90))
    }
}

/// torchvision's `RandomRotation` with bilinear interpolation inside a `RandomApply`. It rotates about the center,
/// keeps the size, and fills corners with black.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Probability that a rotation is applied, 0 to 1.
    pub probability: f64,
    /// Range of the counterclockwise angle in degrees, sampled uniformly.
    pub degrees: (f64, f64),
}

const FIELDS: [Field; 2] = [field("rotation_applied", FLAG), field("rotation_angle", "degrees counterclockwise")];

impl Augmentation for Rotation {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        Params::Rotation(chance(self.probability, rng).then(|| uniform(self.degrees, rng) as f32))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        match params {
            &Params::Rotation(Some(angle)) => rotate(&image, f64::from(angle)),
            _ => image,
        }
    }

    fn identity(&self, _: Size) -> Params {
        Params::Rotation(None)
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        &FIELDS
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        let angle = if let Params::Rotation(angle) = params { *angle } else { None };
        out.extend([flag(angle.is_some()), angle.unwrap_or(0.0)]);
    }

    fn decode(&self, values: &[f32], _: Size, _: Encoding) -> Params {
        Params::Rotation(values.get(1).copied().filter(|angle| is_on(values) && angle.is_finite()))
    }

    fn moments(&self, _: Encoding) -> Vec<Option<Moments>> {
        let angle = Moments::mix(self.probability, Moments::uniform(self.degrees), Moments::constant(0.0));
        vec![Some(Moments::flag(self.probability)), Some(angle)]
    }

    fn bounds(&self, _: Encoding) -> Vec<(f64, f64)> {
        vec![SHARE, with_neutral(self.degrees, 0.0)]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        let text = match params {
            Params::Rotation(Some(angle)) => format!("{angle:+.1}°"),
            _ => "no".into(),
        };
        ("rotation".into(), text)
    }

    fn problems(&self) -> Vec<String> {
        let degrees = check_range("degrees", self.degrees, -360.0, 360.0);
        [check_probability(self.probability), degrees].into_iter().flatten().collect()
    }
}
