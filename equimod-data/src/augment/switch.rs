//! What augmentations that are only on or off have in common.

use super::{Augmentation, Axis, Encoding, Field, Moments, Params, SHARE, check_probability, flag, is_on, yes_or_no};
use crate::image::{Image, Size};
use crate::random::{Rng, chance};

/// An operation that is done with some probability and has no other parameter.
pub(crate) trait Switch: Send + Sync {
    /// Its one value.
    const FIELD: &'static [Field];
    /// For people.
    const TITLE: &'static str;

    /// The axis along which it mirrors an image.
    const MIRRORS: Option<Axis> = None;

    /// How often it is done.
    fn probability(&self) -> f64;

    /// Does it.
    fn change(&self, image: Image) -> Image;

    /// What is wrong with further settings.
    fn further_problems(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<T: Switch> Augmentation for T {
    fn sample(&self, _: Size, rng: &mut Rng) -> Params {
        Params::Switch(chance(self.probability(), rng))
    }

    fn apply(&self, image: Image, params: &Params) -> Image {
        match params {
            Params::Switch(true) => self.change(image),
            _ => image,
        }
    }

    fn mirrors(&self, params: &Params) -> Option<Axis> {
        Self::MIRRORS.filter(|_| matches!(params, Params::Switch(true)))
    }

    fn identity(&self, _: Size) -> Params {
        Params::Switch(false)
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        Self::FIELD
    }

    fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
        out.push(flag(matches!(params, Params::Switch(true))));
    }

    fn decode(&self, values: &[f32], _: Size, _: Encoding) -> Params {
        Params::Switch(is_on(values))
    }

    fn moments(&self, _: Encoding) -> Vec<Option<Moments>> {
        vec![Some(Moments::flag(self.probability()))]
    }

    fn bounds(&self, _: Encoding) -> Vec<(f64, f64)> {
        vec![SHARE]
    }

    fn describe(&self, params: &Params) -> (String, String) {
        (Self::TITLE.into(), yes_or_no(matches!(params, Params::Switch(true))))
    }

    fn problems(&self) -> Vec<String> {
        check_probability(self.probability()).into_iter().chain(self.further_problems()).collect()
    }
}
