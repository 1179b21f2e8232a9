//! Equivariance of the embeddings of trained modules (EquiMod, arXiv 2211.01244), overall and for each augmentation
//! alone, with a shuffled-parameter control.
//!
//! Let yt be the embedding of a view, y0 that of the image it starts from, and ŷt the prediction of yt. Absolute
//! equivariance is `mean[cos(yt, ŷt) − cos(yt, y0)]`, relative equivariance
//! `mean[(1 − cos(yt, y0)) / (1 − cos(yt, ŷt))]` with a denominator of at least 1e-12.

use candle_core::{Device, Tensor};
use equimod_core::equivariance::{Equivariance, EquivarianceRow, Start, equivariance_rows};
use equimod_core::{EquivarianceConfig, EquivarianceModule, Method, Model};
use equimod_data::{Dataset, Image, Sampler};
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::Extractor;
pub use crate::views::AugmentationSpec;
use crate::views::{EPOCH, Transition, ViewSet};

/// Images that are augmented and embedded together.
const BATCH: usize = 64;

/// Equivariance of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleEquivariance {
    /// Name of the module.
    pub module: String,
    /// Equivariance with each view's own parameters.
    pub measured: Equivariance,
    /// Equivariance with the parameters of another image or, where all images make the same change, those of no
    /// change.
    pub shuffled: Equivariance,
    /// The cosines behind `measured`: a row a view, image by image.
    pub rows: Vec<EquivarianceRow>,
    /// Number of images.
    pub images: usize,
}

/// Equivariance with one augmentation alone.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentationEquivariance {
    /// Name of the augmentation, as in policies.
    pub augmentation: String,
    /// Equivariance of each module that predicts embeddings.
    pub modules: Vec<ModuleEquivariance>,
}

/// Cosines with the right and with shuffled parameters.
#[derive(Default)]
struct Rows {
    own: Vec<EquivarianceRow>,
    shuffled: Vec<EquivarianceRow>,
    images: usize,
}

/// Equivariance of every module of `model` that predicts embeddings, on up to `images` images drawn from `seed`, in
/// batches of
/// 64. A last batch of one image is left out.
///
/// # Errors
/// If the model has no such module, does not record its augmentation, or fewer than two images decode.
pub fn measure(model: &Model, dataset: &dyn Dataset, images: usize, seed: u64) -> Result<Vec<ModuleEquivariance>> {
    predicting(model)?;
    let augmentation = AugmentationSpec::of(model)?;
    let views = |image: &Image, sample: usize| augmentation.view_set(image, sample, seed);
    measure_views(model, dataset, &chosen(dataset, images, seed)?, &views)
}

/// As [`measure`], once for each augmentation of the policy that can change an image, with that one alone: it is
/// sampled again until it changes something (a flip always flips), all others do nothing, and the clean view's center
/// crop replaces a random crop.
///
/// A module that predicts from view to view goes from the clean view to the augmented one and back. The control of an
/// augmentation that is only on or off takes the parameters of no change, because all images make the same.
///
/// # Errors
/// As [`measure`].
pub fn measure_each(
    model: &Model,
    dataset: &dyn Dataset,
    images: usize,
    seed: u64,
) -> Result<Vec<AugmentationEquivariance>> {
    predicting(model)?;
    let augmentation = AugmentationSpec::of(model)?;
    let chosen = chosen(dataset, images, seed)?;
    let of = |(name, numbers): (&str, Vec<usize>)| {
        let views = |image: &Image, sample: usize| augmentation.view_set_of(name, &numbers, image, sample, seed);
        Ok(AugmentationEquivariance {
            augmentation: name.to_owned(),
            modules: measure_views(model, dataset, &chosen, &views)?,
        })
    };
    augmentation.active().into_iter().map(of).collect()
}

/// The method of a model that has a module that predicts embeddings.
pub(crate) fn predicting(model: &Model) -> Result<&Method> {
    let Some(method) = model.method() else {
        return refuse(format!("{} holds a backbone without heads; use a checkpoint of a run", model.path.display()));
    };
    match method.modules().iter().any(|module| module.module.start().is_some()) {
        true => Ok(method),
        false => refuse(without_predictions(model)),
    }
}

/// Reason why no module of `model` predicts embeddings.
fn without_predictions(model: &Model) -> String {
    let config = model.description.as_ref().map(|description| &description.method.equivariance);
    let unknown: Vec<&str> = config.into_iter().flat_map(EquivarianceConfig::unknown).collect();
    let mut reason = format!(
        "{} has no equivariance module that predicts embeddings; `equimod eval params` tells what its features say of augmentations",
        model.path.display()
    );
    if !unknown.is_empty() {
        reason += &format!("; this program does not know its module {}", unknown.join(", "));
    }
    reason
}

/// Indices of up to `images` images, drawn from `seed`.
fn chosen(dataset: &dyn Dataset, images: usize, seed: u64) -> Result<Vec<usize>> {
    let mut order = Sampler::new(seed, dataset.len(), 1).order(EPOCH);
    order.truncate(images);
    if order.len() < 2 {
        return refuse("equivariance is measured on at least two images; give more");
    }
    Ok(order)
}

/// The views of an image with its index.
type MakeViews<'a> = &'a (dyn Fn(&Image, usize) -> ViewSet + Sync);

fn measure_views(
    model: &Model,
    dataset: &dyn Dataset,
    chosen: &[usize],
    views: MakeViews,
) -> Result<Vec<ModuleEquivariance>> {
    let method = predicting(model)?;
    let mut rows: Vec<Rows> = method.modules().iter().map(|_| Rows::default()).collect();
    let extractor = Extractor::new(model, None);
    for batch in chosen.chunks(BATCH) {
        let Some(batch) = prepare(model.params().device(), dataset, batch, views)? else { continue };
        for (module, rows) in method.modules().iter().zip(&mut rows) {
            if let Some(start) = module.module.start() {
                batch.measure(&extractor, module.module.as_ref(), start, rows)?;
            }
        }
    }
    let named = method.modules().iter().zip(rows).filter(|(_, rows)| !rows.own.is_empty());
    let modules: Vec<ModuleEquivariance> = named
        .map(|(module, rows)| ModuleEquivariance {
            module: module.name.clone(),
            measured: Equivariance::of(&rows.own),
            shuffled: Equivariance::of(&rows.shuffled),
            rows: rows.own,
            images: rows.images,
        })
        .collect();
    if modules.is_empty() {
        return refuse("fewer than two images decode; equivariance needs at least two");
    }
    Ok(modules)
}

/// The same [`Transition`] for every image of a batch.
struct TransitionBatch {
    from: usize,
    to: usize,
    /// Normalized parameters `[images, parameters]`.
    params: Tensor,
    /// Parameters of the control, `[images, parameters]`.
    shuffled: Tensor,
}

/// The images of a batch that decode, and the parameters from one view to another.
struct PreparedBatch {
    images: usize,
    /// The clean view of every image, then every augmented view.
    views: Vec<Vec<Image>>,
    from_clean: Vec<TransitionBatch>,
    between: Vec<TransitionBatch>,
}

fn prepare(device: &Device, dataset: &dyn Dataset, batch: &[usize], views: MakeViews) -> Result<Option<PreparedBatch>> {
    let make = |&sample: &usize| match dataset.image(sample) {
        Err(equimod_data::Error::Image { .. }) => Ok(None),
        image => Ok(Some(views(&image?, sample))),
    };
    let sets = batch.par_iter().map(make).collect::<Result<Vec<Option<ViewSet>>>>()?;
    let sets: Vec<ViewSet> = sets.into_iter().flatten().collect();
    // The control takes the parameters of another image.
    let Some(first) = sets.first().filter(|_| sets.len() > 1) else { return Ok(None) };
    let transitions = |of: fn(&ViewSet) -> &Vec<Transition>| -> Result<Vec<TransitionBatch>> {
        let numbered = |number: usize| {
            let transitions: Vec<&Transition> = sets.iter().map(|set| &of(set)[number]).collect();
            TransitionBatch::new(&transitions, device)
        };
        (0..of(first).len()).map(numbered).collect()
    };
    let (from_clean, between) = (transitions(|set| &set.from_clean)?, transitions(|set| &set.between)?);
    let mut views = vec![Vec::with_capacity(sets.len()); first.images.len()];
    let images = sets.len();
    for set in sets {
        views.iter_mut().zip(set.images).for_each(|(view, image)| view.push(image));
    }
    Ok(Some(PreparedBatch { images, views, from_clean, between }))
}

impl TransitionBatch {
    fn new(transitions: &[&Transition], device: &Device) -> Result<Self> {
        let Some(first) = transitions.first() else { return refuse("there are no images to compare") };
        let tensor = |rows: Vec<&Vec<f32>>| -> Result<Tensor> {
            let shape = (rows.len(), first.params.len());
            let values = rows.into_iter().flatten().copied().collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?)
        };
        let control = control(transitions);
        Ok(Self {
            from: first.from,
            to: first.to,
            params: tensor(transitions.iter().map(|transition| &transition.params).collect())?,
            shuffled: tensor(control.iter().collect())?,
        })
    }
}

/// Parameters of the control, for each image those of the next one. Values that no image changes, such as the center
/// crop of an image where crops are left out, stay its own. Where all images make the same change, the control is no
/// change.
fn control(transitions: &[&Transition]) -> Vec<Vec<f32>> {
    let width = transitions.first().map_or(0, |transition| transition.params.len());
    let changed = |&k: &usize| transitions.iter().any(|transition| transition.params[k] != transition.identity[k]);
    let changed: Vec<usize> = (0..width).filter(changed).collect();
    let change = |transition: &Transition| changed.iter().map(|&k| transition.params[k]).collect::<Vec<f32>>();
    let changes: Vec<Vec<f32>> = transitions.iter().map(|transition| change(transition)).collect();
    let same = changes.iter().all(|change| *change == changes[0]);
    let other = |(row, own): (usize, &&Transition)| {
        if same {
            return own.identity.clone();
        }
        let mut params = own.params.clone();
        let next = &changes[(row + 1) % changes.len()];
        changed.iter().zip(next).for_each(|(&k, &value)| params[k] = value);
        params
    };
    transitions.iter().enumerate().map(other).collect()
}

impl PreparedBatch {
    fn measure(
        &self,
        extractor: &Extractor,
        module: &dyn EquivarianceModule,
        start: Start,
        rows: &mut Rows,
    ) -> Result<()> {
        let transitions = match start {
            Start::Clean => &self.from_clean,
            Start::View => &self.between,
        };
        if transitions.is_empty() {
            return refuse(
                "the model does not record how parameters from view to view are encoded; use a checkpoint of a run",
            );
        }
        let used = |number: usize| transitions.iter().any(|pair| pair.from == number || pair.to == number);
        let features = |(number, images): (usize, &Vec<Image>)| {
            used(number).then(|| extractor.tap_features(module.tap(), images)).transpose()
        };
        let features = self.views.iter().enumerate().map(features).collect::<Result<Vec<Option<Tensor>>>>()?;
        let at = |end: fn(&TransitionBatch) -> usize| -> Result<Tensor> {
            let tensors = transitions.iter().filter_map(|pair| features.get(end(pair))?.as_ref());
            let tensors: Vec<&Tensor> = tensors.collect();
            Ok(Tensor::cat(&tensors, 0)?)
        };
        let (starts, targets) = (at(|pair| pair.from)?, at(|pair| pair.to)?);
        let (Some(from), Some(to)) = (module.embed(&starts)?, module.embed(&targets)?) else { return Ok(()) };
        let params: Vec<&Tensor> = transitions.iter().map(|pair| &pair.params).collect();
        let shuffled: Vec<&Tensor> = transitions.iter().map(|pair| &pair.shuffled).collect();
        for (params, rows) in [(params, &mut rows.own), (shuffled, &mut rows.shuffled)] {
            if let Some(predicted) = module.predict(&starts, &Tensor::cat(&params, 0)?)? {
                let cosines = equivariance_rows(&from, &to, &predicted)?;
                // From pair by pair to image by image.
                rows.extend((0..self.images).flat_map(|i| cosines.iter().skip(i).step_by(self.images)).cloned());
            }
        }
        rows.images += self.images;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use equimod_data::{Policy, Size};

    use super::*;

    /// Transitions of images of two sizes by one augmentation alone, whose vectors hold each image's center crop.
    fn alone(name: &str) -> Vec<Transition> {
        let sizes = [Size { height: 40, width: 32 }, Size::square(32), Size { height: 32, width: 60 }];
        let spec = AugmentationSpec::of_policy(Policy::built_in("byol-cifar10", 32).unwrap(), &sizes).unwrap();
        let set = |(sample, size): (usize, &Size)| {
            let image = Image::new(*size, vec![90; size.area() * 3]).unwrap();
            spec.view_set_of(name, &[0], &image, sample, 1).from_clean.remove(0)
        };
        sizes.iter().enumerate().map(set).collect()
    }

    #[test]
    fn the_control_differs_in_what_the_augmentation_changes_alone() {
        for name in ["grayscale", "horizontal-flip", "color-jitter", "gaussian-blur"] {
            let transitions = alone(name);
            let control = control(&transitions.iter().collect::<Vec<_>>());
            for (row, (own, control)) in transitions.iter().zip(&control).enumerate() {
                let next = &transitions[(row + 1) % transitions.len()].params;
                let is_switch = ["grayscale", "horizontal-flip"].contains(&name);
                for k in 0..control.len() {
                    let changed = transitions.iter().any(|other| other.params[k] != other.identity[k]);
                    let expected = match changed {
                        _ if is_switch => own.identity[k],
                        true => next[k],
                        false => own.params[k],
                    };
                    assert_eq!(control[k], expected, "{name}, image {row}, value {k}");
                }
            }
            assert_ne!(transitions[0].params, control[0], "{name}");
        }
    }
}
