//! How equivariant the embeddings of a trained module are (method, section 6), with the shuffled-parameter control.

use candle_core::{Device, Tensor};
use equimod_core::equivariance::{Equivariance, EquivarianceRow, Start, equivariance_rows};
use equimod_core::{EquivarianceModule, Model};
use equimod_data::{Dataset, Image, ParamLayout, Policy, Sampler, ViewParams, clean_view, view_rng};
use rayon::prelude::*;
use serde::Deserialize;

use crate::error::refuse;
use crate::features::Extractor;
use crate::{Error, Result};

/// Pictures that are augmented and predicted together.
const BATCH: usize = 64;
/// Views come from this epoch of the generator, which no training reaches.
const EPOCH: u64 = u64::MAX / 2;

/// What a model was trained with, as its description holds it.
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
}

/// The measures of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleEquivariance {
    /// The module's name.
    pub module: String,
    /// With each view's own parameters.
    pub measured: Equivariance,
    /// With the parameters of another picture.
    pub shuffled: Equivariance,
    /// The cosines behind `measured`, one row a view.
    pub rows: Vec<EquivarianceRow>,
    /// Pictures that were used.
    pub pictures: usize,
}

/// Cosines with the right and with another picture's parameters.
#[derive(Default)]
struct Rows {
    own: Vec<EquivarianceRow>,
    shuffled: Vec<EquivarianceRow>,
}

/// Measures every module of `model` that makes explicit predictions, on up to `pictures` pictures drawn from `seed`, 64 by 64; a
/// last one that stands alone is left out.
pub fn measure(model: &Model, dataset: &dyn Dataset, pictures: usize, seed: u64) -> Result<Vec<ModuleEquivariance>> {
    let Some(method) = model.method() else {
        return refuse(format!("{} holds no heads, only a backbone; use a checkpoint of a run", model.path.display()));
    };
    if method.modules().iter().all(|module| module.module.start().is_none()) {
        return refuse(format!("{} has no equivariance module that predicts embeddings", model.path.display()));
    }
    let augmentation = Augmentation::of(model)?;
    let order = Sampler::new(seed, dataset.len(), 1).order(EPOCH);
    let chosen = &order[..pictures.min(order.len())];
    if chosen.len() < 2 {
        return refuse("equivariance is measured on at least two pictures");
    }
    let mut rows: Vec<Rows> = method.modules().iter().map(|_| Rows::default()).collect();
    let extractor = Extractor::new(model, None);
    for batch in chosen.chunks(BATCH) {
        let Some(prepared) = prepare(model.params().device(), dataset, &augmentation, batch, seed)? else { continue };
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
            pictures: rows.shuffled.len() / augmentation.policy.views.len().max(1),
        })
        .collect();
    if found.is_empty() {
        return refuse("too few pictures decode to measure equivariance on");
    }
    Ok(found)
}

/// The pictures of a batch that decode, and the normalised parameters of their views.
struct Prepared {
    clean: Vec<Image>,
    /// One entry a view.
    views: Vec<Vec<Image>>,
    /// `[pictures, parameters]`, one entry a view.
    params: Vec<Tensor>,
    /// From view 1 to view 2 and from view 2 to view 1, if the model was trained with them.
    pairs: Vec<Tensor>,
}

/// A picture's clean view, its views, and their normalised parameters: of each view, and from view to view.
struct Made {
    clean: Image,
    views: Vec<Image>,
    params: Vec<Vec<f32>>,
    pairs: Vec<Vec<f32>>,
}

impl Augmentation {
    fn make(&self, image: &Image, sample: usize, seed: u64) -> Made {
        let (policy, size) = (&self.policy, image.size());
        let draw = |(number, view): (usize, &equimod_data::ViewPolicy)| {
            view.sample(size, &mut view_rng(seed, EPOCH, sample as u64, number as u64))
        };
        let drawn: Vec<ViewParams> = policy.views.iter().enumerate().map(draw).collect();
        let views = || policy.views.iter().zip(&drawn);
        let params = views().map(|(view, params)| {
            let mut values = Vec::new();
            self.layout.encode(view, params, size, &mut values);
            self.layout.normalise(&mut values);
            values
        });
        let pairs = self.pairs.iter().flat_map(|layout| {
            [(0, 1), (1, 0)].map(|ways| {
                let mut values = Vec::new();
                layout.encode_pair(policy, &drawn, size, ways, &mut values);
                layout.normalise(&mut values);
                values
            })
        });
        Made {
            clean: clean_view(image, &policy.clean),
            views: views().map(|(view, params)| view.apply(image, params)).collect(),
            params: params.collect(),
            pairs: pairs.collect(),
        }
    }
}

fn prepare(
    device: &Device,
    dataset: &dyn Dataset,
    augmentation: &Augmentation,
    batch: &[usize],
    seed: u64,
) -> Result<Option<Prepared>> {
    let make = |&sample: &usize| match dataset.image(sample) {
        Err(equimod_data::Error::Picture { .. }) => Ok(None),
        image => Ok(Some(augmentation.make(&image?, sample, seed))),
    };
    let made = batch.par_iter().map(make).collect::<Result<Vec<Option<Made>>>>()?;
    let made: Vec<Made> = made.into_iter().flatten().collect();
    // The parameters of another picture are taken for comparison.
    let Some(first) = made.first().filter(|_| made.len() > 1) else { return Ok(None) };
    let tensors = |of: fn(&Made) -> &Vec<Vec<f32>>| -> Result<Vec<Tensor>> {
        let vectors = |number: usize| made.iter().flat_map(move |made| of(made)[number].iter().copied());
        let tensor = |number: usize| -> Result<Tensor> {
            let shape = (made.len(), of(first)[number].len());
            Ok(Tensor::from_vec(vectors(number).collect(), shape, &Device::Cpu)?.to_device(device)?)
        };
        (0..of(first).len()).map(tensor).collect()
    };
    let (params, pairs) = (tensors(|made| &made.params)?, tensors(|made| &made.pairs)?);
    let mut prepared = Prepared { clean: Vec::new(), views: vec![Vec::new(); first.views.len()], params, pairs };
    for made in made {
        prepared.clean.push(made.clean);
        prepared.views.iter_mut().zip(made.views).for_each(|(views, view)| views.push(view));
    }
    Ok(Some(prepared))
}

impl Prepared {
    fn measure(
        &self,
        extractor: &Extractor,
        module: &dyn EquivarianceModule,
        start: Start,
        rows: &mut Rows,
    ) -> Result<()> {
        let features = |images: &[Image]| extractor.at(module.tap(), images);
        let views = self.views.iter().map(|views| features(views)).collect::<Result<Vec<_>>>()?;
        let (starts, targets, params) = match (start, views.as_slice(), self.pairs.as_slice()) {
            (Start::Clean, ..) => (vec![features(&self.clean)?; views.len()], views, &self.params),
            (Start::View, [one, other, ..], [_, _]) => {
                (vec![one.clone(), other.clone()], vec![other.clone(), one.clone()], &self.pairs)
            }
            (Start::View, ..) => return refuse("the model does not say how it encodes parameters from view to view"),
        };
        let (starts, targets) = (Tensor::cat(&starts, 0)?, Tensor::cat(&targets, 0)?);
        let (Some(from), Some(to)) = (module.embed(&starts)?, module.embed(&targets)?) else { return Ok(()) };
        let count = self.clean.len();
        let next = |rows: &Tensor| Tensor::cat(&[rows.narrow(0, 1, count - 1)?, rows.narrow(0, 0, 1)?], 0);
        let others = params.iter().map(next).collect::<candle_core::Result<Vec<_>>>()?;
        for (params, rows) in [(params, &mut rows.own), (&others, &mut rows.shuffled)] {
            if let Some(predicted) = module.predict(&starts, &Tensor::cat(params, 0)?)? {
                rows.extend(equivariance_rows(&from, &to, &predicted)?);
            }
        }
        Ok(())
    }
}
