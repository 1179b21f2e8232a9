//! The whole command with an augmentation of one's own: `gamma`, a gamma correction with a random exponent.
//!
//! ```sh
//! cargo run --release --example custom_augmentation -- list augmentations
//! cargo run --release --example custom_augmentation -- pretrain --recipe gamma.toml
//! ```

use equimod::data::augment::{AugmentationKind, Encoding, Field, register};
use equimod::data::{Augmentation, Image, Params, Rng, Size};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

/// Settings of `gamma` in a policy: values of the image, from 0 to 1, are raised to a random power.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gamma {
    /// Probability that it is applied, 0 to 1.
    probability: f64,
    /// Smallest and largest exponent.
    exponent: (f32, f32),
}

impl Default for Gamma {
    fn default() -> Self {
        Self { probability: 0.5, exponent: (0.5, 2.0) }
    }
}

/// The exponent in sampled parameters; 1 changes nothing.
fn exponent(params: &Params) -> f32 {
    match params {
        Params::Values(values) => values.first().copied().unwrap_or(1.0),
        _ => 1.0,
    }
}

impl Augmentation for Gamma {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        let exponent = rng.random_range(self.exponent.0..=self.exponent.1);
        Params::Values(vec![if rng.random_bool(self.probability) { exponent } else { 1.0 }])
    }

    fn apply(&self, mut image: Image, params: &Params) -> Image {
        let power = |value: usize| (255.0 * (value as f32 / 255.0).powf(exponent(params))).round() as u8;
        let table: [u8; 256] = std::array::from_fn(power);
        image.pixels_mut().iter_mut().for_each(|value| *value = table[usize::from(*value)]);
        image
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        &[Field { name: "gamma", unit: "exponent", axis: None }]
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        out.push(exponent(params));
    }

    fn identity(&self, _: Size) -> Params {
        Params::Values(vec![1.0])
    }

    fn bounds(&self, _: Encoding) -> Vec<(f64, f64)> {
        vec![(self.exponent.0.min(1.0).into(), self.exponent.1.max(1.0).into())]
    }

    fn problems(&self) -> Vec<String> {
        let Self { probability, exponent: (least, most) } = *self;
        let fine = (0.0..=1.0).contains(&probability) && 0.0 < least && least <= most && most.is_finite();
        let text = "give a probability from 0 to 1, and two exponents above 0, the smaller first";
        if fine { Vec::new() } else { vec![text.into()] }
    }
}

/// The kind of augmentation that policies call `gamma`.
const GAMMA: AugmentationKind = AugmentationKind::new::<Gamma>("gamma", "gamma correction with a random exponent");

/// The command `equimod`, for which policies may have the augmentation `gamma`.
///
/// # Errors
///
/// If the name is taken.
pub fn main() -> equimod::data::Result<std::process::ExitCode> {
    register(&[GAMMA])?;
    Ok(equimod::run_with(&[]))
}

#[cfg(test)]
mod tests {
    use equimod::data::view_rng;

    use super::*;

    #[test]
    fn an_exponent_of_1_changes_nothing_and_larger_ones_darken() {
        let (gamma, size) = (Gamma { probability: 1.0, exponent: (2.0, 3.0) }, Size { height: 2, width: 2 });
        let image = || Image::new(size, vec![100; 12]).unwrap();
        assert_eq!(gamma.apply(image(), &gamma.identity(size)).pixels(), image().pixels());

        // Seed, epoch, image and view.
        let params = gamma.sample(size, &mut view_rng(0, 0, 0, 0));
        let darker = gamma.apply(image(), &params);
        assert!(darker.pixels().iter().all(|&value| value < 100));
        let mut values = Vec::new();
        gamma.encode(&params, size, Encoding::default(), &mut values);
        assert!(values.len() == gamma.fields(Encoding::default()).len() && (2.0..=3.0).contains(&values[0]));
    }
}
