//! Retrieval by the predictor (Garrido et al., arXiv 2302.10283): of M views of a picture, the prediction for one is to
//! find that one.
//!
//! With embeddings yₘ of the views and predictions ŷₘ from the picture and each view's parameters, the rank of view m is its
//! place among all M views by falling cos(ŷₘ, y): 1 + those above it + half of the others that are equal. Reported are
//! `MRR = mean 1/rank` and `H@k = share of ranks ≤ k`. A uniformly random order gives `MRR = (1 + 1/2 + … + 1/M)/M` and
//! `H@k = k/M`. A prediction that ignores the parameters gives less, because one view is found for all.
//!
//! What the prediction starts from (the clean view, or one more view for modules that predict from view to view) is none of
//! the M views: the identity pair is left out.

use candle_core::{DType, Device, Tensor};
use equimod_core::equivariance::Start;
use equimod_core::{EquivarianceModule, Model};
use equimod_data::{Dataset, Image, Sampler, view_rng};
use rayon::prelude::*;

use crate::Result;
use crate::equivariance::predicting;
use crate::error::refuse;
use crate::features::Extractor;
use crate::views::{Augmentation, Drawn, EPOCH, Way};

/// Views come from this epoch of the generator.
const RETRIEVAL: u64 = EPOCH - 2;

/// What retrieval takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictorRetrievalConfig {
    /// Pictures, at most.
    pub pictures: usize,
    /// M, the views of each. 50 as Garrido et al. have views of an object.
    pub views: usize,
    /// Decides pictures and views.
    pub seed: u64,
}

impl Default for PredictorRetrievalConfig {
    fn default() -> Self {
        Self { pictures: 200, views: 50, seed: 0 }
    }
}

/// How well the predictions of one module find their views.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictorRetrieval {
    /// The module's name.
    pub module: String,
    /// M, the views that each prediction chooses among.
    pub views: usize,
    /// The rank of each view, from 1 to M, picture by picture; of equal ones the mean.
    pub ranks: Vec<f64>,
}

impl PredictorRetrieval {
    /// 1/rank of each view.
    pub fn reciprocal_ranks(&self) -> Vec<f64> {
        self.ranks.iter().map(|rank| rank.recip()).collect()
    }

    /// 1 for each view whose rank is at most `k`, else 0.
    pub fn hits(&self, k: usize) -> Vec<f64> {
        self.ranks.iter().map(|&rank| if rank <= k as f64 { 1.0 } else { 0.0 }).collect()
    }

    /// The mean of 1/rank.
    pub fn mean_reciprocal_rank(&self) -> f64 {
        self.reciprocal_ranks().iter().sum::<f64>() / self.ranks.len().max(1) as f64
    }

    /// The share of ranks of at most `k`.
    pub fn hit_share(&self, k: usize) -> f64 {
        self.hits(k).iter().sum::<f64>() / self.ranks.len().max(1) as f64
    }

    /// The mean of 1/rank in random order: `(1 + 1/2 + … + 1/M)/M`.
    pub fn chance_of_mean_reciprocal_rank(&self) -> f64 {
        (1..=self.views).map(|rank| (rank as f64).recip()).sum::<f64>() / self.views.max(1) as f64
    }

    /// The share of ranks of at most `k` in random order: `k/M`.
    pub fn chance_of_hit(&self, k: usize) -> f64 {
        (k as f64 / self.views.max(1) as f64).min(1.0)
    }
}

/// Retrieval by every module of `model` that makes explicit predictions, on pictures that decode.
///
/// # Errors
/// If the model has no such module or does not say how views are made, or if fewer than two views are asked for.
pub fn retrieve(
    model: &Model,
    dataset: &dyn Dataset,
    config: &PredictorRetrievalConfig,
) -> Result<Vec<PredictorRetrieval>> {
    let method = predicting(model)?;
    if config.views < 2 {
        return refuse(format!("retrieval among {} views says nothing; take at least 2", config.views));
    }
    let (augmentation, extractor) = (Augmentation::of(model)?, Extractor::new(model, None));
    let modules = method.modules().iter().filter_map(|module| Some((module, module.module.start()?)));
    let mut found: Vec<(PredictorRetrieval, Start, &dyn EquivarianceModule)> = modules
        .map(|(named, start)| {
            let retrieval = PredictorRetrieval { module: named.name.clone(), views: config.views, ranks: Vec::new() };
            (retrieval, start, named.module.as_ref())
        })
        .collect();
    let mut order = Sampler::new(config.seed, dataset.len(), 1).order(RETRIEVAL);
    order.truncate(config.pictures);
    for sample in order {
        let image = match dataset.image(sample) {
            Err(equimod_data::Error::Picture { .. }) => continue,
            image => image?,
        };
        let gallery = Gallery::new(&augmentation, &image, sample, config);
        for (retrieval, start, module) in &mut found {
            retrieval.ranks.extend(gallery.ranks(&extractor, *module, *start)?);
        }
    }
    if found.iter().all(|(retrieval, ..)| retrieval.ranks.is_empty()) {
        return refuse("no picture decodes to retrieve views of; check the data set");
    }
    Ok(found.into_iter().map(|(retrieval, ..)| retrieval).collect())
}

/// The views of one picture to choose among, and what predictions of them start from.
struct Gallery {
    clean: Image,
    /// The view that predictions from view to view start from.
    start: Image,
    views: Vec<Image>,
    from_clean: Vec<Way>,
    /// Empty if the layout of pairs is not known.
    from_start: Vec<Way>,
}

impl Gallery {
    /// Views 1 and 2 of the policy in turn; the start is one more of view 1.
    fn new(augmentation: &Augmentation, image: &Image, sample: usize, config: &PredictorRetrievalConfig) -> Self {
        let size = image.size();
        let policies = augmentation.policy.views.len().min(2);
        let draw = |number: usize| {
            let rng = &mut view_rng(config.seed, RETRIEVAL, sample as u64, number as u64);
            augmentation.draw(number % policies, size, rng)
        };
        let drawn: Vec<Drawn> = (0..config.views).map(draw).collect();
        let start = Drawn {
            view: &augmentation.policy.views[0],
            params: augmentation
                .draw(0, size, &mut view_rng(config.seed, RETRIEVAL, sample as u64, config.views as u64))
                .params,
        };
        let numbered = || drawn.iter().enumerate();
        let from_clean = numbered().map(|(m, view)| augmentation.way_from_clean(view, m % policies, m, size)).collect();
        let from_start = numbered().filter_map(|(m, view)| augmentation.way_between((&start, 0), (view, m), size));
        Self {
            clean: equimod_data::clean_view(image, &augmentation.policy.clean),
            start: start.view.apply(image, &start.params),
            from_clean,
            from_start: from_start.collect(),
            views: drawn.par_iter().map(|drawn| drawn.view.apply(image, &drawn.params)).collect(),
        }
    }

    fn ranks(&self, extractor: &Extractor, module: &dyn EquivarianceModule, start: Start) -> Result<Vec<f64>> {
        let (image, ways) = match start {
            Start::Clean => (&self.clean, &self.from_clean),
            Start::View => (&self.start, &self.from_start),
        };
        let Some(first) = ways.first() else {
            return refuse("the model does not say how it encodes parameters from view to view");
        };
        let views = extractor.at(module.tap(), &self.views)?;
        let starts = extractor.at(module.tap(), std::slice::from_ref(image))?.repeat((ways.len(), 1))?;
        let values = ways.iter().flat_map(|way| way.params.iter().copied()).collect();
        let params = Tensor::from_vec(values, (ways.len(), first.params.len()), &Device::Cpu)?;
        let predicted = module.predict(&starts, &params.to_device(views.device())?)?;
        match (predicted, module.embed(&views)?) {
            (Some(predicted), Some(embedded)) => ranks(&cosines(&predicted, &embedded)?),
            _ => Ok(Vec::new()),
        }
    }
}

/// The cosine of each row of `a` with each of `b`, `[rows, width]` both, in 64 bits.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<Vec<f64>>> {
    let unit = |t: &Tensor| -> Result<Tensor> {
        let t = t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let length = t.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
        Ok(t.broadcast_div(&length)?)
    };
    Ok(unit(a)?.matmul(&unit(b)?.t()?.contiguous()?)?.to_vec2()?)
}

/// The rank of entry m in row m, from 1 for the highest; of equal entries the mean.
fn ranks(similarities: &[Vec<f64>]) -> Result<Vec<f64>> {
    let rank = |(own, row): (usize, &Vec<f64>)| {
        let Some(&value) = row.get(own) else { return refuse("there are more predictions than views") };
        if row.iter().any(|other| !other.is_finite()) {
            return refuse("embeddings or predictions of views are not finite; check the weights");
        }
        let above = row.iter().filter(|&&other| other > value).count() as f64;
        let equal = row.iter().filter(|&&other| other == value).count() as f64;
        Ok(1.0 + above + (equal - 1.0) / 2.0)
    };
    similarities.iter().enumerate().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_what_is_above_and_half_of_what_is_equal() {
        let rows = vec![vec![0.9, 0.1, 0.2], vec![0.5, 0.5, 0.5], vec![0.3, 0.4, 0.1]];
        assert_eq!(ranks(&rows).unwrap(), [1.0, 2.0, 3.0]);
        assert!(ranks(&[vec![f64::NAN]]).is_err());
        let found = PredictorRetrieval { module: "m".into(), views: 3, ranks: vec![1.0, 2.0, 3.0] };
        let thirds = (1.0 + 0.5 + 1.0 / 3.0) / 3.0;
        assert!((found.mean_reciprocal_rank() - thirds).abs() < 1e-12);
        // Every rank once is what chance gives.
        assert!((found.chance_of_mean_reciprocal_rank() - thirds).abs() < 1e-12);
        assert_eq!([1, 2, 5].map(|k| found.chance_of_hit(k)), [1.0 / 3.0, 2.0 / 3.0, 1.0]);
        assert_eq!([1, 2, 5].map(|k| found.hit_share(k)), [1.0 / 3.0, 2.0 / 3.0, 1.0]);
    }

    #[test]
    fn cosines_do_not_depend_on_lengths() {
        let rows = |values: &[[f32; 2]; 2]| Tensor::new(values, &Device::Cpu).unwrap();
        let found = cosines(&rows(&[[2.0, 0.0], [0.0, 3.0]]), &rows(&[[5.0, 0.0], [0.0, 0.5]])).unwrap();
        assert_eq!(found, [[1.0, 0.0], [0.0, 1.0]]);
    }
}
