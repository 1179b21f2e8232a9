//! Views of pictures and their parameters, for protocols that look at a trained model: the one place where they are drawn.

use equimod_core::Model;
use equimod_data::{
    AugmentationConfig, CleanView, Encoding, Image, LayoutConfig, ParamLayout, Params, Policy, Rectangle, Rng, Size,
    ViewParams, ViewPolicy, clean_view, view_rng,
};
use serde::Deserialize;

use crate::error::refuse;
use crate::{Error, Result};

/// Views come from this epoch of the generator and those before it, which no training reaches.
pub(crate) const EPOCH: u64 = u64::MAX / 2;

/// Draws after which an augmentation that never changes anything is given up.
const TRIES: usize = 1000;

/// How views are made and what their parameter vectors hold, as a model's description says.
#[derive(Clone, Debug, Deserialize)]
pub struct Augmentation {
    /// How views are made.
    pub policy: Policy,
    /// The layout of parameter vectors.
    pub layout: ParamLayout,
    /// That of vectors from view to view, if the model was trained with them.
    #[serde(default)]
    pub pairs: Option<ParamLayout>,
}

/// What was drawn for one view of a picture.
pub(crate) struct Drawn<'a> {
    pub view: &'a ViewPolicy,
    pub params: ViewParams,
}

/// From one image of [`Looks`] to another.
pub(crate) struct Way {
    pub from: usize,
    pub to: usize,
    /// The normalised parameters.
    pub params: Vec<f32>,
    /// The parameters that say that nothing changes.
    pub still: Vec<f32>,
}

/// A picture as it is and in its views, and what leads from one to the other.
pub(crate) struct Looks {
    /// The clean view, then the others.
    pub images: Vec<Image>,
    /// From the clean view, with the parameters of each view.
    pub from_clean: Vec<Way>,
    /// From view to view, with the parameters of the pair; none if the layout of pairs is not known.
    pub between: Vec<Way>,
}

impl Augmentation {
    /// Reads it from a model's description.
    pub fn of(model: &Model) -> Result<Self> {
        let Some(description) = &model.description else {
            return refuse(format!(
                "{} does not say how views are made; use a checkpoint of a run",
                model.path.display()
            ));
        };
        serde_json::from_value(description.augmentation.clone())
            .map_err(|e| Error::Protocol(format!("the augmentation in {} cannot be read: {e}", model.path.display())))
    }

    /// Every value of `policy`, size-normalised, and from view to view if it has two; statistics for pictures of `sizes`.
    pub fn of_policy(policy: Policy, sizes: &[Size]) -> Result<Self> {
        let config = |encoding| LayoutConfig { encoding, ..LayoutConfig::default() };
        let layout = ParamLayout::new(&policy, &config(Encoding::SizeNormalised), sizes)?;
        let pairs = match policy.views.len() {
            0 | 1 => None,
            _ => Some(ParamLayout::new(&policy, &config(Encoding::Pairwise), sizes)?.both_ways()),
        };
        Ok(Self { policy, layout, pairs })
    }

    /// Draws view number `number` of picture `sample` by all of its augmentations.
    pub(crate) fn draw(&self, number: usize, size: Size, rng: &mut Rng) -> Drawn<'_> {
        let view = &self.policy.views[number % self.policy.views.len()];
        Drawn { view, params: view.sample(size, rng) }
    }

    /// The parameters of the clean view, as view number `number` would have drawn them: the middle, and nothing else.
    pub(crate) fn untouched(&self, number: usize, size: Size) -> Drawn<'_> {
        let view = &self.policy.views[number % self.policy.views.len()];
        let mut size = size;
        let still = |config: &AugmentationConfig| {
            let augmentation = config.as_augmentation();
            let params = match config {
                AugmentationConfig::RandomResizedCrop(_) => Params::Crop(middle(&self.policy.clean, size)),
                _ => augmentation.identity(size),
            };
            size = augmentation.output_size(size, &params);
            params
        };
        Drawn { view, params: ViewParams(view.0.iter().map(still).collect()) }
    }

    /// Draws view number `number` with the augmentation `name` alone; it is drawn again until it changes something, up to
    /// a thousand times.
    pub(crate) fn draw_only(&self, name: &str, number: usize, size: Size, rng: &mut Rng) -> Drawn<'_> {
        let Drawn { view, params } = self.untouched(number, size);
        let mut size = size;
        let draw = |(config, still): (&AugmentationConfig, Params)| {
            let augmentation = config.as_augmentation();
            let drawn = match config.name() == name {
                true => (0..TRIES).map(|_| augmentation.sample(size, rng)).find(|drawn| *drawn != still),
                false => None,
            };
            let params = drawn.unwrap_or(still);
            size = augmentation.output_size(size, &params);
            params
        };
        Drawn { view, params: ViewParams(view.0.iter().zip(params.0).map(draw).collect()) }
    }

    /// Each augmentation that can change something, in order, and the numbers of the views in which it can.
    pub(crate) fn active(&self) -> Vec<(&'static str, Vec<usize>)> {
        let size = Size::square(self.policy.size());
        let mut found: Vec<(&'static str, Vec<usize>)> = Vec::new();
        for (number, view) in self.policy.views.iter().enumerate() {
            for name in view.0.iter().map(AugmentationConfig::name) {
                let drawn = self.draw_only(name, number, size, &mut view_rng(0, EPOCH, 0, number as u64));
                if drawn.params == self.untouched(number, size).params {
                    continue;
                }
                match found.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, numbers)) if numbers.contains(&number) => {}
                    Some((_, numbers)) => numbers.push(number),
                    None => found.push((name, vec![number])),
                }
            }
        }
        found
    }

    /// The normalised parameters of a view of a picture of `size`.
    fn of_view(&self, drawn: &Drawn, size: Size) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.layout.width());
        self.layout.encode(drawn.view, &drawn.params, size, &mut values);
        self.layout.normalise(&mut values);
        values
    }

    /// The normalised parameters from one view of a picture of `size` to another.
    fn of_pair(&self, layout: &ParamLayout, from: &Drawn, to: &Drawn, size: Size) -> Vec<f32> {
        let mut values = raw_pair(layout, &self.policy, [from, to], size);
        layout.normalise(&mut values);
        values
    }

    /// From the clean view to `drawn`, which is image number `to`.
    pub(crate) fn way_from_clean(&self, drawn: &Drawn, number: usize, to: usize, size: Size) -> Way {
        let still = self.of_view(&self.untouched(number, size), size);
        Way { from: 0, to, params: self.of_view(drawn, size), still }
    }

    /// From one view to another, each with the number of its image; `None` if the layout of pairs is not known.
    pub(crate) fn way_between(&self, from: (&Drawn, usize), to: (&Drawn, usize), size: Size) -> Option<Way> {
        let layout = self.pairs.as_ref()?;
        let (params, still) = (self.of_pair(layout, from.0, to.0, size), self.of_pair(layout, from.0, from.0, size));
        Some(Way { from: from.1, to: to.1, params, still })
    }

    /// The clean view and each of `drawn`.
    pub(crate) fn images(&self, image: &Image, drawn: &[Drawn]) -> Vec<Image> {
        let views = drawn.iter().map(|drawn| drawn.view.apply(image, &drawn.params));
        std::iter::once(clean_view(image, &self.policy.clean)).chain(views).collect()
    }

    /// All views of a picture by all augmentations; pairs are views 1 and 2, both ways.
    pub(crate) fn looks(&self, image: &Image, sample: usize, seed: u64) -> Looks {
        let size = image.size();
        let rng = |number: usize| view_rng(seed, EPOCH, sample as u64, number as u64);
        let drawn: Vec<Drawn> =
            (0..self.policy.views.len()).map(|number| self.draw(number, size, &mut rng(number))).collect();
        let ways = drawn.iter().enumerate();
        let from_clean = ways.map(|(number, drawn)| self.way_from_clean(drawn, number, number + 1, size)).collect();
        let between = match drawn.as_slice() {
            [one, other, ..] => {
                let ends = [((one, 1), (other, 2)), ((other, 2), (one, 1))];
                ends.into_iter().filter_map(|(from, to)| self.way_between(from, to, size)).collect()
            }
            _ => Vec::new(),
        };
        Looks { images: self.images(image, &drawn), from_clean, between }
    }

    /// A picture in the views `numbers` by the augmentation `name` alone; pairs are the clean view and each of them, both
    /// ways.
    pub(crate) fn looks_by(&self, name: &str, numbers: &[usize], image: &Image, sample: usize, seed: u64) -> Looks {
        let size = image.size();
        let rng = |number: usize| view_rng(seed, EPOCH - 1, sample as u64, number as u64);
        let draw = |&number: &usize| self.draw_only(name, number, size, &mut rng(number));
        let drawn: Vec<Drawn> = numbers.iter().map(draw).collect();
        let (mut from_clean, mut between) = (Vec::new(), Vec::new());
        for ((&number, drawn), place) in numbers.iter().zip(&drawn).zip(1..) {
            let clean = self.untouched(number, size);
            from_clean.push(self.way_from_clean(drawn, number, place, size));
            between.extend(self.way_between((&clean, 0), (drawn, place), size));
            between.extend(self.way_between((drawn, place), (&clean, 0), size));
        }
        Looks { images: self.images(image, &drawn), from_clean, between }
    }
}

/// The raw parameters from one view of a picture of `size` to another, in the pairwise layout.
pub(crate) fn raw_pair(layout: &ParamLayout, policy: &Policy, [from, to]: [&Drawn; 2], size: Size) -> Vec<f32> {
    let views = vec![from.view.clone(), to.view.clone()];
    let two = Policy { name: policy.name.clone(), views, clean: policy.clean.clone() };
    let mut values = Vec::with_capacity(layout.width());
    layout.encode_pair(&two, &[from.params.clone(), to.params.clone()], size, (0, 1), &mut values);
    values
}

/// What the clean view shows of a picture of `size`: the square in the middle.
fn middle(clean: &CleanView, size: Size) -> Rectangle {
    let shorter = size.height.min(size.width);
    let side = (shorter as f64 * clean.crop as f64 / clean.resize.max(1) as f64).round() as usize;
    let side = side.clamp(1, shorter.max(1));
    Rectangle { top: (size.height - side) / 2, left: (size.width - side) / 2, height: side, width: side }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Augmentation {
        Augmentation::of_policy(Policy::built_in(name, 32).unwrap(), &[Size::square(32)]).unwrap()
    }

    #[test]
    fn one_augmentation_alone_changes_its_own_values_alone() {
        let augmentation = of("byol-cifar10");
        let names: Vec<&str> = augmentation.active().iter().map(|(name, _)| *name).collect();
        let all = ["random-resized-crop", "horizontal-flip", "colour-jitter", "grayscale", "gaussian-blur", "solarize"];
        assert_eq!(names, all);
        // View 1 is never solarized.
        assert_eq!(augmentation.active()[5].1, [1]);
        let size = Size { height: 40, width: 32 };
        let values = augmentation.layout.values(&augmentation.policy);
        for (name, numbers) in augmentation.active() {
            for number in numbers {
                let still = augmentation.of_view(&augmentation.untouched(number, size), size);
                let drawn = augmentation.draw_only(name, number, size, &mut view_rng(1, 2, 3, 4));
                let changed = augmentation.of_view(&drawn, size);
                assert_ne!(still, changed, "{name}");
                for (value, (a, b)) in values.iter().zip(still.iter().zip(&changed)) {
                    assert!(value.augmentation == name || a == b, "{name} changed {}", value.name);
                }
            }
        }
    }

    #[test]
    fn the_clean_view_is_the_middle_of_a_picture() {
        let clean = CleanView { resize: 256, crop: 224, filter: equimod_data::resample::Filter::Bilinear };
        let want = Rectangle { top: 28, left: 78, height: 224, width: 224 };
        assert_eq!(middle(&clean, Size { height: 256, width: 380 }), Rectangle { top: 16, ..want });
        let small = CleanView { resize: 32, crop: 32, ..clean };
        assert_eq!(middle(&small, Size::square(32)), Rectangle::whole(Size::square(32)));
    }

    #[test]
    fn pairs_of_one_augmentation_lead_from_the_clean_view_and_back() {
        let augmentation = of("simclr-cifar10");
        let image = Image::new(Size::square(32), vec![90; 32 * 32 * 3]).unwrap();
        let looks = augmentation.looks_by("horizontal-flip", &[0, 1], &image, 5, 6);
        let ends: Vec<(usize, usize)> = looks.between.iter().map(|way| (way.from, way.to)).collect();
        assert_eq!(ends, [(0, 1), (1, 0), (0, 2), (2, 0)]);
        let differ = |way: &Way| way.params.iter().zip(&way.still).filter(|(a, b)| a != b).count();
        assert!(looks.between.iter().all(|way| differ(way) == 1));
        assert!(looks.from_clean.iter().all(|way| differ(way) == 1));
    }
}
