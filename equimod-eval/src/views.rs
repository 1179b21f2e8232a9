//! Sampled views of images and their parameter vectors, for protocols that measure a trained model.

use equimod_core::Model;
use equimod_data::{
    AugmentationConfig, CleanView, Encoding, Image, LayoutConfig, ParamLayout, Params, Policy, Rectangle, Rng, Size,
    ViewParams, ViewPolicy, clean_view, view_rng,
};
use serde::Deserialize;

use crate::error::refuse;
use crate::{Error, Result};

/// Epoch of the random streams of views, which no training reaches; some protocols use the epochs just below it.
pub(crate) const EPOCH: u64 = u64::MAX / 2;

/// Number of draws after which an augmentation that changes nothing is given up.
const MOST_DRAWS: usize = 1000;

/// The augmentation policy and the layouts of parameter vectors, as a model's description records them.
#[derive(Clone, Debug, Deserialize)]
pub struct AugmentationSpec {
    /// The augmentation policy.
    pub policy: Policy,
    /// Layout of the parameter vector of a view.
    pub layout: ParamLayout,
    /// Layout of the parameter vector from view to view, if the model was trained with such.
    #[serde(default)]
    pub pairs: Option<ParamLayout>,
}

/// The sampled parameters of one view of an image.
pub(crate) struct SampledView<'a> {
    pub view: &'a ViewPolicy,
    pub params: ViewParams,
}

/// The parameters that lead from one image of a [`ViewSet`] to another.
pub(crate) struct Transition {
    pub from: usize,
    pub to: usize,
    /// Normalized parameters.
    pub params: Vec<f32>,
    /// Normalized parameters of no change.
    pub identity: Vec<f32>,
}

/// The clean view and augmented views of one image, with the parameters from one to another.
pub(crate) struct ViewSet {
    /// The clean view, then the others.
    pub images: Vec<Image>,
    /// From the clean view to each other view.
    pub from_clean: Vec<Transition>,
    /// From view to view; empty if the layout of pairs is not known.
    pub between: Vec<Transition>,
}

impl AugmentationSpec {
    /// The augmentation of a model's training.
    ///
    /// # Errors
    /// If the model's file has no description, or a wrong one.
    pub fn of(model: &Model) -> Result<Self> {
        let Some(description) = &model.description else {
            return refuse(format!(
                "{} does not say how views are made; use a checkpoint of a run",
                model.path.display()
            ));
        };
        let path = model.path.display();
        let spec: Self = serde_json::from_value(description.augmentation.clone())
            .map_err(|e| Error::Protocol(format!("the augmentation in {path} cannot be read: {e}")))?;
        match spec.policy.check() {
            Ok(()) => Ok(spec),
            Err(error) => refuse(format!("the views of {path} cannot be made: {error}")),
        }
    }

    /// All parameters of `policy`, size-normalized, and from view to view if it has two views; statistics for images of
    /// `sizes`.
    ///
    /// # Errors
    /// If the policy cannot be encoded.
    pub fn of_policy(policy: Policy, sizes: &[Size]) -> Result<Self> {
        let config = |encoding| LayoutConfig { encoding, ..LayoutConfig::default() };
        let layout = ParamLayout::new(&policy, &config(Encoding::SizeNormalized), sizes)?;
        let pairs = match policy.views.len() {
            0 | 1 => None,
            _ => Some(ParamLayout::new(&policy, &config(Encoding::Pairwise), sizes)?.both_ways()),
        };
        Ok(Self { policy, layout, pairs })
    }

    /// Samples view number `number` of an image of `size` with all augmentations.
    pub(crate) fn sample(&self, number: usize, size: Size, rng: &mut Rng) -> SampledView<'_> {
        let view = &self.policy.views[number % self.policy.views.len()];
        SampledView { view, params: view.sample(size, rng) }
    }

    /// The parameters of the clean view in terms of view number `number`: the center crop and no other change.
    pub(crate) fn identity(&self, number: usize, size: Size) -> SampledView<'_> {
        let view = &self.policy.views[number % self.policy.views.len()];
        let mut size = size;
        let identity = |config: &AugmentationConfig| {
            let augmentation = config.as_augmentation();
            let params = match config {
                AugmentationConfig::RandomResizedCrop(_) => Params::Crop(center_crop(&self.policy.clean, size)),
                _ => augmentation.identity(size),
            };
            size = augmentation.output_size(size, &params);
            params
        };
        SampledView { view, params: ViewParams(view.0.iter().map(identity).collect()) }
    }

    /// Samples view number `number` with the augmentation `name` alone, again until it changes something, at most a
    /// thousand times.
    pub(crate) fn sample_only(&self, name: &str, number: usize, size: Size, rng: &mut Rng) -> SampledView<'_> {
        let SampledView { view, params } = self.identity(number, size);
        let mut size = size;
        let sample = |(config, identity): (&AugmentationConfig, Params)| {
            let augmentation = config.as_augmentation();
            let changed = match config.name() == name {
                true => (0..MOST_DRAWS).map(|_| augmentation.sample(size, rng)).find(|drawn| *drawn != identity),
                false => None,
            };
            let params = changed.unwrap_or(identity);
            size = augmentation.output_size(size, &params);
            params
        };
        SampledView { view, params: ViewParams(view.0.iter().zip(params.0).map(sample).collect()) }
    }

    /// Each augmentation that can change something, in the order of the policy, with the numbers of the views in
    /// which it can.
    pub(crate) fn active(&self) -> Vec<(&str, Vec<usize>)> {
        let size = Size::square(self.policy.size());
        let mut active: Vec<(&str, Vec<usize>)> = Vec::new();
        for (number, view) in self.policy.views.iter().enumerate() {
            for name in view.0.iter().map(AugmentationConfig::name) {
                let sampled = self.sample_only(name, number, size, &mut view_rng(0, EPOCH, 0, number as u64));
                if sampled.params == self.identity(number, size).params {
                    continue;
                }
                match active.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, numbers)) if numbers.contains(&number) => {}
                    Some((_, numbers)) => numbers.push(number),
                    None => active.push((name, vec![number])),
                }
            }
        }
        active
    }

    /// The normalized parameters of a view of an image of `size`.
    fn encode_view(&self, view: &SampledView, size: Size) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.layout.width());
        self.layout.encode(view.view, &view.params, size, &mut values);
        self.layout.normalize(&mut values);
        values
    }

    /// The normalized parameters from one view of an image of `size` to another.
    fn encode_pair(&self, layout: &ParamLayout, from: &SampledView, to: &SampledView, size: Size) -> Vec<f32> {
        let mut values = raw_pair(layout, &self.policy, [from, to], size);
        layout.normalize(&mut values);
        values
    }

    /// From the clean view to `view`, which is image number `to` of the set.
    pub(crate) fn transition_from_clean(&self, view: &SampledView, number: usize, to: usize, size: Size) -> Transition {
        let identity = self.encode_view(&self.identity(number, size), size);
        Transition { from: 0, to, params: self.encode_view(view, size), identity }
    }

    /// From one view to another, each with its image number in the set; `None` if the layout of pairs is not known.
    pub(crate) fn between(
        &self,
        from: (&SampledView, usize),
        to: (&SampledView, usize),
        size: Size,
    ) -> Option<Transition> {
        let layout = self.pairs.as_ref()?;
        let params = self.encode_pair(layout, from.0, to.0, size);
        let identity = self.encode_pair(layout, from.0, from.0, size);
        Some(Transition { from: from.1, to: to.1, params, identity })
    }

    /// The clean view, then each of `views`.
    pub(crate) fn images(&self, image: &Image, views: &[SampledView]) -> Vec<Image> {
        let views = views.iter().map(|view| view.view.apply(image, &view.params));
        std::iter::once(clean_view(image, &self.policy.clean)).chain(views).collect()
    }

    /// All views of an image with all augmentations; pairs are views 1 and 2, in both directions.
    pub(crate) fn view_set(&self, image: &Image, sample: usize, seed: u64) -> ViewSet {
        let size = image.size();
        let rng = |number: usize| view_rng(seed, EPOCH, sample as u64, number as u64);
        let views: Vec<SampledView> =
            (0..self.policy.views.len()).map(|number| self.sample(number, size, &mut rng(number))).collect();
        let numbered = views.iter().enumerate();
        let from_clean =
            numbered.map(|(number, view)| self.transition_from_clean(view, number, number + 1, size)).collect();
        let between = match views.as_slice() {
            [one, other, ..] => {
                let ends = [((one, 1), (other, 2)), ((other, 2), (one, 1))];
                ends.into_iter().filter_map(|(from, to)| self.between(from, to, size)).collect()
            }
            _ => Vec::new(),
        };
        ViewSet { images: self.images(image, &views), from_clean, between }
    }

    /// The views `numbers` of an image with the augmentation `name` alone; pairs are the clean view and each of them,
    /// in both directions.
    pub(crate) fn view_set_of(
        &self,
        name: &str,
        numbers: &[usize],
        image: &Image,
        sample: usize,
        seed: u64,
    ) -> ViewSet {
        let size = image.size();
        let rng = |number: usize| view_rng(seed, EPOCH - 1, sample as u64, number as u64);
        let sample = |&number: &usize| self.sample_only(name, number, size, &mut rng(number));
        let views: Vec<SampledView> = numbers.iter().map(sample).collect();
        let (mut from_clean, mut between) = (Vec::new(), Vec::new());
        for ((&number, view), index) in numbers.iter().zip(&views).zip(1..) {
            let clean = self.identity(number, size);
            from_clean.push(self.transition_from_clean(view, number, index, size));
            between.extend(self.between((&clean, 0), (view, index), size));
            between.extend(self.between((view, index), (&clean, 0), size));
        }
        ViewSet { images: self.images(image, &views), from_clean, between }
    }
}

/// The raw parameters from one view of an image of `size` to another, in the pairwise layout.
pub(crate) fn raw_pair(layout: &ParamLayout, policy: &Policy, [from, to]: [&SampledView; 2], size: Size) -> Vec<f32> {
    let views = vec![from.view.clone(), to.view.clone()];
    let two = Policy { name: policy.name.clone(), views, clean: policy.clean.clone() };
    let mut values = Vec::with_capacity(layout.width());
    layout.encode_pair(&two, &[from.params.clone(), to.params.clone()], size, (0, 1), &mut values);
    values
}

/// The center crop that the clean view shows of an image of `size`.
fn center_crop(clean: &CleanView, size: Size) -> Rectangle {
    let shorter = size.height.min(size.width);
    let side = (shorter as f64 * clean.crop as f64 / clean.resize.max(1) as f64).round() as usize;
    let side = side.clamp(1, shorter.max(1));
    Rectangle { top: (size.height - side) / 2, left: (size.width - side) / 2, height: side, width: side }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> AugmentationSpec {
        AugmentationSpec::of_policy(Policy::built_in(name, 32).unwrap(), &[Size::square(32)]).unwrap()
    }

    #[test]
    fn one_augmentation_alone_changes_its_own_values_alone() {
        let augmentation = of("byol-cifar10");
        let names: Vec<&str> = augmentation.active().iter().map(|(name, _)| *name).collect();
        let all = ["random-resized-crop", "horizontal-flip", "color-jitter", "grayscale", "gaussian-blur", "solarize"];
        assert_eq!(names, all);
        // View 1 is never solarized.
        assert_eq!(augmentation.active()[5].1, [1]);
        let size = Size { height: 40, width: 32 };
        let values = augmentation.layout.values(&augmentation.policy);
        for (name, numbers) in augmentation.active() {
            for number in numbers {
                let identity = augmentation.encode_view(&augmentation.identity(number, size), size);
                let sampled = augmentation.sample_only(name, number, size, &mut view_rng(1, 2, 3, 4));
                let changed = augmentation.encode_view(&sampled, size);
                assert_ne!(identity, changed, "{name}");
                for (value, (a, b)) in values.iter().zip(identity.iter().zip(&changed)) {
                    assert!(value.augmentation == name || a == b, "{name} changed {}", value.name);
                }
            }
        }
    }

    #[test]
    fn the_clean_view_is_the_center_of_an_image() {
        let clean = CleanView { resize: 256, crop: 224, filter: equimod_data::resample::Filter::Bilinear };
        let want = Rectangle { top: 28, left: 78, height: 224, width: 224 };
        assert_eq!(center_crop(&clean, Size { height: 256, width: 380 }), Rectangle { top: 16, ..want });
        let small = CleanView { resize: 32, crop: 32, ..clean };
        assert_eq!(center_crop(&small, Size::square(32)), Rectangle::whole(Size::square(32)));
    }

    #[test]
    fn pairs_of_one_augmentation_lead_from_the_clean_view_and_back() {
        let augmentation = of("simclr-cifar10");
        let image = Image::new(Size::square(32), vec![90; 32 * 32 * 3]).unwrap();
        let set = augmentation.view_set_of("horizontal-flip", &[0, 1], &image, 5, 6);
        let ends: Vec<(usize, usize)> = set.between.iter().map(|pair| (pair.from, pair.to)).collect();
        assert_eq!(ends, [(0, 1), (1, 0), (0, 2), (2, 0)]);
        let differ = |pair: &Transition| pair.params.iter().zip(&pair.identity).filter(|(a, b)| a != b).count();
        assert!(set.between.iter().all(|pair| differ(pair) == 1));
        assert!(set.from_clean.iter().all(|pair| differ(pair) == 1));
    }
}
