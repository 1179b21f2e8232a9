//! Features of two augmented views of each image.

use equimod_core::{Model, Tap};
use equimod_data::{Dataset, Image, Policy, Sampler, view_rng};
use rayon::prelude::*;

use crate::error::refuse;
use crate::features::{Extractor, Features};
use crate::views::EPOCH;
use crate::{Error, Result};

/// Epoch of the random streams of views.
const PAIRS: u64 = EPOCH - 3;
/// Images a forward pass.
const BATCH: usize = 64;

/// Pooled features `[images, features]` of views 1 and 2 by `policy`, of up to `images` images of `dataset`, drawn
/// from `seed`. Images that do not decode are left out.
///
/// # Errors
/// If the policy has one view, or if fewer than two images decode.
pub fn view_pairs(
    model: &Model,
    policy: &Policy,
    dataset: &dyn Dataset,
    images: usize,
    seed: u64,
) -> Result<[Features; 2]> {
    if policy.views.len() < 2 {
        return refuse(format!("the policy {} has one view of an image, and alignment compares two", policy.name));
    }
    let extractor = Extractor::new(model, None);
    let mut order = Sampler::new(seed, dataset.len(), 1).order(PAIRS);
    order.truncate(images);
    let mut values = [Vec::new(), Vec::new()];
    for batch in order.chunks(BATCH) {
        let draw = |&sample: &usize| match dataset.image(sample) {
            Ok(image) => Ok(Some([0, 1].map(|number| view(policy, &image, sample, number, seed)))),
            Err(equimod_data::Error::Image { .. }) => Ok(None),
            Err(other) => Err(Error::from(other)),
        };
        let drawn = batch.par_iter().map(draw).collect::<Result<Vec<_>>>()?;
        let drawn: Vec<[Image; 2]> = drawn.into_iter().flatten().collect();
        for (number, values) in values.iter_mut().enumerate().filter(|_| !drawn.is_empty()) {
            let images: Vec<Image> = drawn.iter().map(|pair| pair[number].clone()).collect();
            values.extend(extractor.tap_features(Tap::Pooled, &images)?.flatten_all()?.to_vec1::<f32>()?);
        }
    }
    let columns = model.backbone().features();
    let [one, other] = values.map(|values| Features::new(values.len() / columns, columns, values));
    let pair = [one?, other?];
    if pair[0].rows() < 2 {
        return refuse("fewer than two images decode; alignment needs at least two");
    }
    Ok(pair)
}

fn view(policy: &Policy, image: &Image, sample: usize, number: usize, seed: u64) -> Image {
    let view = &policy.views[number];
    view.apply(image, &view.sample(image.size(), &mut view_rng(seed, PAIRS, sample as u64, number as u64)))
}
