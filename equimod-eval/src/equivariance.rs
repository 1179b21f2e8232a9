//! How equivariant the embeddings of a trained module are (method, section 6), with the shuffled-parameter control.

use candle_core::{Device, Tensor};
use equimod_core::equivariance::{Equivariance, EquivarianceRow, equivariance_rows};
use equimod_core::{EquivarianceModule, Model};
use equimod_data::{Dataset, Image, ParamLayout, Policy, Sampler, clean_view, view_rng};
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
    /// With the parameters of another picture's view.
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

/// Measures every module of `model` that makes explicit predictions, on up to `pictures` pictures drawn from `seed`.
pub fn measure(model: &Model, dataset: &dyn Dataset, pictures: usize, seed: u64) -> Result<Vec<ModuleEquivariance>> {
    let Some(method) = model.method() else {
        return refuse(format!("{} holds no heads, only a backbone; use a checkpoint of a run", model.path.display()));
    };
    let augmentation = Augmentation::of(model)?;
    let order = Sampler::new(seed, dataset.len(), 1).order(EPOCH);
    let chosen = &order[..pictures.min(order.len())];
    if chosen.len() < 2 {
        return refuse("equivariance is measured on at least two pictures");
    }
    let mut rows: Vec<Rows> = method.modules().iter().map(|_| Rows::default()).collect();
    for batch in chosen.chunks(BATCH) {
        let Some(prepared) = prepare(model, dataset, &augmentation, batch, seed)? else { continue };
        for (module, rows) in method.modules().iter().zip(&mut rows) {
            prepared.measure(module.module.as_ref(), rows)?;
        }
    }
    let named = method.modules().iter().zip(rows).filter(|(_, rows)| !rows.own.is_empty());
    let found: Vec<ModuleEquivariance> = named
        .map(|(module, rows)| ModuleEquivariance {
            module: module.name.to_owned(),
            measured: Equivariance::of(&rows.own),
            shuffled: Equivariance::of(&rows.shuffled),
            rows: rows.own,
            pictures: rows.shuffled.len() / augmentation.policy.views.len().max(1),
        })
        .collect();
    if found.is_empty() {
        return refuse(format!("{} has no equivariance module that predicts embeddings", model.path.display()));
    }
    Ok(found)
}

/// Features of a batch's pictures that decode, views one after the other.
struct Prepared {
    /// Of the clean pictures, once for each view.
    clean: Tensor,
    views: Tensor,
    params: Tensor,
    /// The parameters of the next picture's view.
    other_params: Tensor,
}

/// A picture's clean view, its views, and their raw parameters.
type Made = (Image, Vec<(Image, Vec<f32>)>);

fn prepare(
    model: &Model,
    dataset: &dyn Dataset,
    augmentation: &Augmentation,
    batch: &[usize],
    seed: u64,
) -> Result<Option<Prepared>> {
    let Augmentation { policy, layout } = augmentation;
    let make = |&sample: &usize| -> Result<Option<Made>> {
        let image = match dataset.image(sample) {
            Err(equimod_data::Error::Picture { .. }) => return Ok(None),
            image => image?,
        };
        let view = |(number, view): (usize, &equimod_data::ViewPolicy)| {
            let params = view.sample(image.size(), &mut view_rng(seed, EPOCH, sample as u64, number as u64));
            let mut values = Vec::new();
            layout.encode(view, &params, image.size(), &mut values);
            layout.normalise(&mut values);
            (view.apply(&image, &params), values)
        };
        Ok(Some((clean_view(&image, &policy.clean), policy.views.iter().enumerate().map(view).collect())))
    };
    let made = batch.par_iter().map(make).collect::<Result<Vec<Option<Made>>>>()?;
    let made: Vec<Made> = made.into_iter().flatten().collect();
    // The parameters of another picture are taken for comparison.
    if made.len() < 2 {
        return Ok(None);
    }
    let device = model.params().device();
    let extractor = Extractor::new(model, None);
    let clean = extractor.pooled(&made.iter().map(|(clean, _)| clean.clone()).collect::<Vec<_>>())?;
    let (mut views, mut params) = (Vec::new(), Vec::new());
    for number in 0..policy.views.len() {
        views.push(extractor.pooled(&made.iter().map(|(_, views)| views[number].0.clone()).collect::<Vec<_>>())?);
        let values: Vec<f32> = made.iter().flat_map(|(_, views)| views[number].1.iter().copied()).collect();
        params.push(Tensor::from_vec(values, (made.len(), layout.width()), &Device::Cpu)?.to_device(device)?);
    }
    let next = |rows: &Tensor| Tensor::cat(&[rows.narrow(0, 1, made.len() - 1)?, rows.narrow(0, 0, 1)?], 0);
    let others = params.iter().map(next).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Some(Prepared {
        clean: Tensor::cat(&vec![clean; views.len()], 0)?,
        views: Tensor::cat(&views, 0)?,
        params: Tensor::cat(&params, 0)?,
        other_params: Tensor::cat(&others, 0)?,
    }))
}

impl Prepared {
    fn measure(&self, module: &dyn EquivarianceModule, rows: &mut Rows) -> Result<()> {
        let (Some(clean), Some(views)) = (module.embed(&self.clean)?, module.embed(&self.views)?) else {
            return Ok(());
        };
        for (params, rows) in [(&self.params, &mut rows.own), (&self.other_params, &mut rows.shuffled)] {
            if let Some(predicted) = module.predict(&self.clean, params)? {
                rows.extend(equivariance_rows(&clean, &views, &predicted)?);
            }
        }
        Ok(())
    }
}
