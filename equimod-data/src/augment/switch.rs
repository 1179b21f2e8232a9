//! Implementation shared by augmentations that are only on or off.

use super::{Augmentation, Axis, Encoding, Field, Moments, Params, SHARE, check_probability, flag, is_on, yes_or_no};
use crate::image::{Image, Size};
use crate::plan::{PixelOperation, ViewPlan};
use crate::random::{Rng, chance};

/// An operation that is applied with some probability and has no other random parameter.
pub(crate) trait Switch: Send + Sync {
    /// Name and unit of the single value.
    const FIELD: &'static [Field];
    /// Human-readable name.
    const TITLE: &'static str;

    /// Axis along which the operation mirrors an image, if any.
    const MIRRORS: Option<Axis> = None;

    /// Probability that the operation is applied.
    fn probability(&self) -> f64;

    /// Applies the operation.
    fn change(&self, image: Image) -> Image;

    /// The operation in a plan; `None` if a plan cannot express it.
    fn operation(&self) -> Option<PixelOperation> {
        None
    }

    /// Problems of settings other than the probability.
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

    fn plan(&self, params: &Params, plan: &mut ViewPlan) -> bool {
        let operation = self.operation();
        if matches!(params, Params::Switch(true)) {
            plan.operations.extend(operation.clone());
        }
        operation.is_some()
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
