//! How equivariant the embeddings of a trained module are (method, section 6), overall and by one augmentation at a time,
//! with the shuffled-parameter control.
//!
//! With yt the embedding of a view, y0 that of the picture it starts from and ŷt the prediction:
//! absolute `mean[cos(yt, ŷt) − cos(yt, y0)]`, relative `mean[(1 − cos(yt, y0)) / (1 − cos(yt, ŷt))]`, the denominator at
//! least 1e-12.

use candle_core::{Device, Tensor};
use equimod_core::equivariance::{Equivariance, EquivarianceRow, Start, equivariance_rows};
use equimod_core::{EquivarianceModule, Method, Model};
use equimod_data::{Dataset, Image, Sampler};
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::Extractor;
pub use crate::views::Augmentation;
use crate::views::{EPOCH, Looks, Way};

/// Pictures that are augmented and predicted together.
const BATCH: usize = 64;

/// The measures of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleEquivariance {
    /// The module's name.
    pub module: String,
    /// With each view's own parameters.
    pub measured: Equivariance,
    /// With the parameters of another picture; where all pictures have the same, with those of no change.
    pub shuffled: Equivariance,
    /// The cosines behind `measured`, one row a view, picture by picture.
    pub rows: Vec<EquivarianceRow>,
    /// Pictures that were used.
    pub pictures: usize,
}

/// The measures by one augmentation alone.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentationEquivariance {
    /// The augmentation's name, as in policies.
    pub augmentation: &'static str,
    /// Each module that makes explicit predictions.
    pub modules: Vec<ModuleEquivariance>,
}

/// Cosines with the right and with wrong parameters.
#[derive(Default)]
struct Rows {
    own: Vec<EquivarianceRow>,
    shuffled: Vec<EquivarianceRow>,
    pictures: usize,
}

/// Measures every module of `model` that makes explicit predictions, on up to `pictures` pictures drawn from `seed`, 64 by 64; a
/// last one that stands alone is left out.
pub fn measure(model: &Model, dataset: &dyn Dataset, pictures: usize, seed: u64) -> Result<Vec<ModuleEquivariance>> {
    predicting(model)?;
    let augmentation = Augmentation::of(model)?;
    let look = |image: &Image, sample: usize| augmentation.looks(image, sample, seed);
    measure_looks(model, dataset, &chosen(dataset, pictures, seed)?, &look)
}

/// As [`measure`], once for each augmentation of the policy that can change a picture, with that one alone: it is drawn
/// again until it changes something (a flip always flips), all others do nothing, and instead of a random crop there is
/// the clean view's part of the picture.
///
/// A module that predicts from view to view goes from the clean view to the augmented one and back. The control of an
/// augmentation that is only on or off takes the parameters of no change, because all pictures have the same.
pub fn measure_each(
    model: &Model,
    dataset: &dyn Dataset,
    pictures: usize,
    seed: u64,
) -> Result<Vec<AugmentationEquivariance>> {
    predicting(model)?;
    let augmentation = Augmentation::of(model)?;
    let chosen = chosen(dataset, pictures, seed)?;
    let of = |(name, numbers): (&'static str, Vec<usize>)| {
        let look = |image: &Image, sample: usize| augmentation.looks_by(name, &numbers, image, sample, seed);
        Ok(AugmentationEquivariance { augmentation: name, modules: measure_looks(model, dataset, &chosen, &look)? })
    };
    augmentation.active().into_iter().map(of).collect()
}

/// The method of a model with a module that predicts embeddings.
pub(crate) fn predicting(model: &Model) -> Result<&Method> {
    let Some(method) = model.method() else {
        return refuse(format!("{} holds no heads, only a backbone; use a checkpoint of a run", model.path.display()));
    };
    match method.modules().iter().any(|module| module.module.start().is_some()) {
        true => Ok(method),
        false => refuse(format!("{} has no equivariance module that predicts embeddings", model.path.display())),
    }
}

/// Up to `pictures` pictures, drawn from `seed`.
fn chosen(dataset: &dyn Dataset, pictures: usize, seed: u64) -> Result<Vec<usize>> {
    let mut order = Sampler::new(seed, dataset.len(), 1).order(EPOCH);
    order.truncate(pictures);
    if order.len() < 2 {
        return refuse("equivariance is measured on at least two pictures");
    }
    Ok(order)
}

/// How a picture, with its number, is looked at.
type Look<'a> = &'a (dyn Fn(&Image, usize) -> Looks + Sync);

fn measure_looks(
    model: &Model,
    dataset: &dyn Dataset,
    chosen: &[usize],
    look: Look,
) -> Result<Vec<ModuleEquivariance>> {
    let method = predicting(model)?;
    let mut rows: Vec<Rows> = method.modules().iter().map(|_| Rows::default()).collect();
    let extractor = Extractor::new(model, None);
    for batch in chosen.chunks(BATCH) {
        let Some(prepared) = prepare(model.params().device(), dataset, batch, look)? else { continue };
        for (module, rows) in method.modules().iter().zip(&mut rows) {
            if let Some(start) = module.module.start() {
                prepared.measure(&extractor, module.module.as_ref(), start, rows)?;
            }
        }
    }
    let named = method.modules().iter().zip(rows).filter(|(_, rows)| !rows.own.is_empty());
    let found: Vec<ModuleEquivariance> = named
        .map(|(module, rows)| ModuleEquivariance {
            module: module.name.clone(),
            measured: Equivariance::of(&rows.own),
            shuffled: Equivariance::of(&rows.shuffled),
            rows: rows.own,
            pictures: rows.pictures,
        })
        .collect();
    if found.is_empty() {
        return refuse("too few pictures decode to measure equivariance on");
    }
    Ok(found)
}

/// A [`Way`] of every picture of a batch.
struct Ways {
    from: usize,
    to: usize,
    /// `[pictures, parameters]`, normalised.
    params: Tensor,
    /// Wrong ones, for comparison.
    others: Tensor,
}

/// The pictures of a batch that decode, and what leads from one view to the other.
struct Prepared {
    pictures: usize,
    /// The clean view of every picture, then each other view.
    images: Vec<Vec<Image>>,
    from_clean: Vec<Ways>,
    between: Vec<Ways>,
}

fn prepare(device: &Device, dataset: &dyn Dataset, batch: &[usize], look: Look) -> Result<Option<Prepared>> {
    let make = |&sample: &usize| match dataset.image(sample) {
        Err(equimod_data::Error::Picture { .. }) => Ok(None),
        image => Ok(Some(look(&image?, sample))),
    };
    let looks = batch.par_iter().map(make).collect::<Result<Vec<Option<Looks>>>>()?;
    let looks: Vec<Looks> = looks.into_iter().flatten().collect();
    // The parameters of another picture are taken for comparison.
    let Some(first) = looks.first().filter(|_| looks.len() > 1) else { return Ok(None) };
    let ways = |of: fn(&Looks) -> &Vec<Way>| -> Result<Vec<Ways>> {
        let of_way =
            |number: usize| Ways::new(&looks.iter().map(|looks| &of(looks)[number]).collect::<Vec<_>>(), device);
        (0..of(first).len()).map(of_way).collect()
    };
    let (from_clean, between) = (ways(|looks| &looks.from_clean)?, ways(|looks| &looks.between)?);
    let mut images = vec![Vec::with_capacity(looks.len()); first.images.len()];
    let pictures = looks.len();
    for looks in looks {
        images.iter_mut().zip(looks.images).for_each(|(images, image)| images.push(image));
    }
    Ok(Some(Prepared { pictures, images, from_clean, between }))
}

impl Ways {
    /// The others are those of the next picture, or of no change where all pictures have the same.
    fn new(ways: &[&Way], device: &Device) -> Result<Self> {
        let Some(first) = ways.first() else { return refuse("there are no pictures to compare") };
        let tensor = |rows: Vec<&Vec<f32>>| -> Result<Tensor> {
            let shape = (rows.len(), first.params.len());
            let values = rows.into_iter().flatten().copied().collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?)
        };
        let same = ways.iter().all(|way| way.params == first.params);
        let next = |place: usize| &ways[(place + 1) % ways.len()].params;
        let other = |place: usize| if same { &ways[place].still } else { next(place) };
        Ok(Self {
            from: first.from,
            to: first.to,
            params: tensor(ways.iter().map(|way| &way.params).collect())?,
            others: tensor((0..ways.len()).map(other).collect())?,
        })
    }
}

impl Prepared {
    fn measure(
        &self,
        extractor: &Extractor,
        module: &dyn EquivarianceModule,
        start: Start,
        rows: &mut Rows,
    ) -> Result<()> {
        let ways = match start {
            Start::Clean => &self.from_clean,
            Start::View => &self.between,
        };
        if ways.is_empty() {
            return refuse("the model does not say how it encodes parameters from view to view");
        }
        let used = |number: usize| ways.iter().any(|way| way.from == number || way.to == number);
        let features = |(number, images): (usize, &Vec<Image>)| {
            used(number).then(|| extractor.at(module.tap(), images)).transpose()
        };
        let features = self.images.iter().enumerate().map(features).collect::<Result<Vec<Option<Tensor>>>>()?;
        let at = |end: fn(&Ways) -> usize| -> Result<Tensor> {
            let tensors: Vec<&Tensor> = ways.iter().filter_map(|way| features.get(end(way))?.as_ref()).collect();
            Ok(Tensor::cat(&tensors, 0)?)
        };
        let (starts, targets) = (at(|way| way.from)?, at(|way| way.to)?);
        let (Some(from), Some(to)) = (module.embed(&starts)?, module.embed(&targets)?) else { return Ok(()) };
        let params: Vec<&Tensor> = ways.iter().map(|way| &way.params).collect();
        let others: Vec<&Tensor> = ways.iter().map(|way| &way.others).collect();
        for (params, rows) in [(params, &mut rows.own), (others, &mut rows.shuffled)] {
            if let Some(predicted) = module.predict(&starts, &Tensor::cat(&params, 0)?)? {
                let found = equivariance_rows(&from, &to, &predicted)?;
                // They come way by way; here the ways of a picture follow each other.
                rows.extend((0..self.pictures).flat_map(|i| found.iter().skip(i).step_by(self.pictures)).cloned());
            }
        }
        rows.pictures += self.pictures;
        Ok(())
    }
}
