//! Predictions as images: the view whose embedding is nearest to a prediction, beside the view that was predicted.

use equimod_core::Model;
use equimod_core::equivariance::Start;
use equimod_data::{Dataset, Image};

use crate::Result;
use crate::equivariance::{AugmentationSpec, predicting};
use crate::features::Extractor;
use crate::predictor_retrieval::{Gallery, PredictorRetrievalConfig, ranks};

/// One prediction of the first module that predicts embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedView {
    /// Index of the image in its data set.
    pub sample: usize,
    /// What the prediction starts from: the un-augmented image or, for modules that predict from view to view, a view.
    pub start: Start,
    /// The image that the prediction starts from.
    pub from: Image,
    /// The view whose parameters the predictor was given.
    pub actual: View,
    /// Of all views of the image, the one whose embedding has the highest cosine with the prediction.
    pub nearest: View,
    /// Rank of the actual view among all views, from 1; equal cosines share their mean rank.
    pub rank: f64,
    /// Number of views.
    pub views: usize,
}

/// A view of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The augmented image.
    pub image: Image,
    /// `(name, value)` pairs of its augmentation parameters.
    pub parameters: Vec<(String, String)>,
}

/// The prediction of view 1 for each image of `samples`, among `views` views (at least 1) of the image from `seed`.
/// Images that do not decode are left out.
///
/// # Errors
/// If the model has no module that predicts embeddings or does not record its augmentation, or if an image cannot be
/// read.
pub fn predicted_views(
    model: &Model,
    dataset: &dyn Dataset,
    samples: &[usize],
    views: usize,
    seed: u64,
) -> Result<Vec<PredictedView>> {
    let method = predicting(model)?;
    let (augmentation, extractor) = (AugmentationSpec::of(model)?, Extractor::new(model, None));
    let first = method.modules().iter().find_map(|module| Some((module.module.as_ref(), module.module.start()?)));
    let Some((module, start)) = first else { return Ok(Vec::new()) };
    let config = PredictorRetrievalConfig { images: samples.len(), views: views.max(1), seed };
    let mut predicted = Vec::new();
    for &sample in samples {
        let image = match dataset.image(sample) {
            Err(equimod_data::Error::Image { .. }) => continue,
            image => image?,
        };
        let gallery = Gallery::new(&augmentation, &image, sample, &config);
        let similarities = gallery.similarities(&extractor, module, start)?;
        let ranks = ranks(&similarities)?;
        let (Some(row), Some(&rank)) = (similarities.first(), ranks.first()) else { continue };
        let nearest = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or_default();
        let view = |number: usize| View {
            image: gallery.views[number].clone(),
            parameters: gallery.parameters[number].clone(),
        };
        let (from, actual, nearest) = (gallery.start(start).clone(), view(0), view(nearest));
        predicted.push(PredictedView { sample, start, from, actual, nearest, rank, views: row.len() });
    }
    Ok(predicted)
}
