//! Retrieval by the predictor (Garrido et al., arXiv 2302.10283): among M views of an image, the prediction of one
//! view should retrieve that view.
//!
//! Let yₘ be the embeddings of the views and ŷₘ the predictions from the image and each view's parameters. The rank
//! of view m is its position among all M views in descending order of cos(ŷₘ, y): 1, plus the views above it, plus
//! half of the other views with the same cosine. Reported are `MRR = mean 1/rank` and `H@k = share of ranks ≤ k`.
//!
//! A uniformly random order gives `MRR = (1 + 1/2 + … + 1/M)/M` and `H@k = k/M`. A prediction that ignores the
//! parameters gives less, because it retrieves the same view every time.
//!
//! The prediction starts from the clean view or, for modules that predict from view to view, from one more view. That
//! image is none of the M views: the identity pair is left out.

use candle_core::{DType, Device, Tensor};
use equimod_core::equivariance::Start;
use equimod_core::{EquivarianceModule, Model};
use equimod_data::{Dataset, Image, Sampler, view_rng};
use rayon::prelude::*;

use crate::Result;
use crate::equivariance::predicting;
use crate::error::refuse;
use crate::features::Extractor;
use crate::views::{AugmentationSpec, EPOCH, SampledView, Transition};

/// Epoch of the random streams of views.
const RETRIEVAL: u64 = EPOCH - 2;

/// Settings of the retrieval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictorRetrievalConfig {
    /// Maximum number of images. Default: 200.
    pub images: usize,
    /// M, the number of views of each image. Default: 50, as the views of an object of Garrido et al.
    pub views: usize,
    /// Seed of the choice of images and of their views.
    pub seed: u64,
}

impl Default for PredictorRetrievalConfig {
    fn default() -> Self {
        Self { images: 200, views: 50, seed: 0 }
    }
}

/// The ranks of the views that one module's predictions retrieve.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictorRetrieval {
    /// Name of the module.
    pub module: String,
    /// M, the number of views that each prediction ranks.
    pub views: usize,
    /// Rank of each view, from 1 to M, image by image; equal cosines share their mean rank.
    pub ranks: Vec<f64>,
}

impl PredictorRetrieval {
    /// Reciprocal rank of each view.
    pub fn reciprocal_ranks(&self) -> Vec<f64> {
        self.ranks.iter().map(|rank| rank.recip()).collect()
    }

    /// 1 for each view whose rank is at most `k`, else 0.
    pub fn hits(&self, k: usize) -> Vec<f64> {
        self.ranks.iter().map(|&rank| if rank <= k as f64 { 1.0 } else { 0.0 }).collect()
    }

    /// Mean reciprocal rank.
    pub fn mean_reciprocal_rank(&self) -> f64 {
        self.reciprocal_ranks().iter().sum::<f64>() / self.ranks.len().max(1) as f64
    }

    /// The share of ranks of at most `k`.
    pub fn hit_share(&self, k: usize) -> f64 {
        self.hits(k).iter().sum::<f64>() / self.ranks.len().max(1) as f64
    }

    /// Mean reciprocal rank in random order: `(1 + 1/2 + … + 1/M)/M`.
    pub fn chance_of_mean_reciprocal_rank(&self) -> f64 {
        (1..=self.views).map(|rank| (rank as f64).recip()).sum::<f64>() / self.views.max(1) as f64
    }

    /// The share of ranks of at most `k` in random order: `k/M`.
    pub fn chance_of_hit(&self, k: usize) -> f64 {
        (k as f64 / self.views.max(1) as f64).min(1.0)
    }
}

/// Retrieval by every module of `model` that predicts embeddings. Images that do not decode are left out.
///
/// # Errors
/// If the model has no such module or does not record its augmentation, if fewer than two views are asked for, or if
/// no image decodes.
pub fn retrieve(
    model: &Model,
    dataset: &dyn Dataset,
    config: &PredictorRetrievalConfig,
) -> Result<Vec<PredictorRetrieval>> {
    let method = predicting(model)?;
    if config.views < 2 {
        return refuse(format!("retrieval needs at least 2 views of an image, not {}", config.views));
    }
    let (augmentation, extractor) = (AugmentationSpec::of(model)?, Extractor::new(model, None));
    let modules = method.modules().iter().filter_map(|module| Some((module, module.module.start()?)));
    let mut retrievals: Vec<(PredictorRetrieval, Start, &dyn EquivarianceModule)> = modules
        .map(|(named, start)| {
            let retrieval = PredictorRetrieval { module: named.name.clone(), views: config.views, ranks: Vec::new() };
            (retrieval, start, named.module.as_ref())
        })
        .collect();
    let mut order = Sampler::new(config.seed, dataset.len(), 1).order(RETRIEVAL);
    order.truncate(config.images);
    for sample in order {
        let image = match dataset.image(sample) {
            Err(equimod_data::Error::Image { .. }) => continue,
            image => image?,
        };
        let gallery = Gallery::new(&augmentation, &image, sample, config);
        for (retrieval, start, module) in &mut retrievals {
            retrieval.ranks.extend(gallery.ranks(&extractor, *module, *start)?);
        }
    }
    if retrievals.iter().all(|(retrieval, ..)| retrieval.ranks.is_empty()) {
        return refuse("no image of the data set decodes; check the data set");
    }
    Ok(retrievals.into_iter().map(|(retrieval, ..)| retrieval).collect())
}

/// The views of one image that predictions rank, and the image that predictions start from.
pub(crate) struct Gallery {
    clean: Image,
    /// The view that predictions from view to view start from.
    start: Image,
    pub(crate) views: Vec<Image>,
    /// Parameters of each view in words.
    pub(crate) parameters: Vec<Vec<(String, String)>>,
    from_clean: Vec<Transition>,
    /// Parameters from `start` to each view; empty if the layout of pairs is not known.
    from_start: Vec<Transition>,
}

impl Gallery {
    /// Samples views 1 and 2 of the policy in turn, and one more view 1 as the start.
    pub(crate) fn new(
        augmentation: &AugmentationSpec,
        image: &Image,
        sample: usize,
        config: &PredictorRetrievalConfig,
    ) -> Self {
        let size = image.size();
        let policies = augmentation.policy.views.len().min(2);
        let rng = |number: usize| view_rng(config.seed, RETRIEVAL, sample as u64, number as u64);
        let sample = |number: usize| augmentation.sample(number % policies, size, &mut rng(number));
        let views: Vec<SampledView> = (0..config.views).map(sample).collect();
        let start = augmentation.sample(0, size, &mut rng(config.views));
        let numbered = || views.iter().enumerate();
        let from_clean =
            numbered().map(|(m, view)| augmentation.transition_from_clean(view, m % policies, m, size)).collect();
        let from_start = numbered().filter_map(|(m, view)| augmentation.between((&start, 0), (view, m), size));
        Self {
            clean: equimod_data::clean_view(image, &augmentation.policy.clean),
            start: start.view.apply(image, &start.params),
            from_clean,
            from_start: from_start.collect(),
            parameters: views.iter().map(|view| view.view.describe(&view.params)).collect(),
            views: views.par_iter().map(|view| view.view.apply(image, &view.params)).collect(),
        }
    }

    /// The image that predictions start from.
    pub(crate) fn start(&self, start: Start) -> &Image {
        match start {
            Start::Clean => &self.clean,
            Start::View => &self.start,
        }
    }

    /// The rank of each view for its prediction.
    fn ranks(&self, extractor: &Extractor, module: &dyn EquivarianceModule, start: Start) -> Result<Vec<f64>> {
        ranks(&self.similarities(extractor, module, start)?)
    }

    /// The cosine of each view's prediction with the embedding of every view; empty if the module predicts none.
    pub(crate) fn similarities(
        &self,
        extractor: &Extractor,
        module: &dyn EquivarianceModule,
        start: Start,
    ) -> Result<Vec<Vec<f64>>> {
        let image = self.start(start);
        let transitions = match start {
            Start::Clean => &self.from_clean,
            Start::View => &self.from_start,
        };
        let Some(first) = transitions.first() else {
            return refuse(
                "the model does not record how parameters from view to view are encoded; use a checkpoint of a run",
            );
        };
        let views = extractor.tap_features(module.tap(), &self.views)?;
        let start = extractor.tap_features(module.tap(), std::slice::from_ref(image))?;
        let starts = start.repeat((transitions.len(), 1))?;
        let values = transitions.iter().flat_map(|transition| transition.params.iter().copied()).collect();
        let params = Tensor::from_vec(values, (transitions.len(), first.params.len()), &Device::Cpu)?;
        let predicted = module.predict(&starts, &params.to_device(views.device())?)?;
        match (predicted, module.embed(&views)?) {
            (Some(predicted), Some(embedded)) => cosines(&predicted, &embedded),
            _ => Ok(Vec::new()),
        }
    }
}

/// The cosine of each row of `a` with each of `b`, both `[rows, width]`, in f64.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<Vec<f64>>> {
    let unit = |t: &Tensor| -> Result<Tensor> {
        let t = t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let norm = t.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
        Ok(t.broadcast_div(&norm)?)
    };
    Ok(unit(a)?.matmul(&unit(b)?.t()?.contiguous()?)?.to_vec2()?)
}

/// The rank of entry m in row m, from 1 for the highest; equal entries share their mean rank.
pub(crate) fn ranks(similarities: &[Vec<f64>]) -> Result<Vec<f64>> {
    let rank = |(own, row): (usize, &Vec<f64>)| {
        let Some(&value) = row.get(own) else { return refuse("there are more predictions than views to rank") };
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
        // Chance gives every rank once.
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
