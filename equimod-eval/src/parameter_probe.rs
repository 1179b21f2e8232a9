//! Data for parameter probes: features of augmented views, and the augmentation parameters behind them.
//!
//! Absolute: the features `h` of one view and its parameters. Relative: the features `[h1, h2]` of two views of an
//! image and the differences of their parameters. Parameters are raw, in the units of the size-normalized encoding,
//! and cover all augmentations of the policy, so that models trained with different layouts can be compared.

use candle_core::Tensor;
use equimod_core::{Model, Tap};
use equimod_data::augment::FLAG;
use equimod_data::{Dataset, Image, ParamLayout, Policy, Sampler, view_rng};
use rayon::prelude::*;

use crate::error::refuse;
use crate::features::Extractor;
use crate::views::{AugmentationSpec, EPOCH, SampledView, raw_pair};
use crate::{Features, Result};

/// Epoch of the random streams of views.
const PROBE: u64 = EPOCH - 3;

/// Images that are augmented together, for one forward pass.
const BATCH: usize = 64;

/// Number of images whose sizes give the layout's statistics, on which raw values do not depend.
const SIZES: usize = 64;

/// The features that parameters are regressed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Features of one view, alternately view 1 and view 2 of the policy.
    Absolute,
    /// Features of views 1 and 2 together.
    Relative,
}

/// Settings of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeConfig {
    /// Maximum number of images, each augmented once. Default: 4000.
    pub images: usize,
    /// Share of the images for validation. Default: 0.2.
    pub validation: f64,
    /// Share of the images for the test. Default: 0.2.
    pub test: f64,
    /// Seed of the choice of images, their splits and their views.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { images: 4000, validation: 0.2, test: 0.2, seed: 0 }
    }
}

/// Features of augmented views and the parameters behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeData {
    /// `[images, features]`, or `[images, 2 · features]` of views 1 and 2.
    pub features: Features,
    /// A column for each parameter with a value for each image.
    pub targets: Vec<Vec<f32>>,
    /// Name of each column: `augmentation: value (unit)` or `augmentation: value, difference (unit)`.
    pub names: Vec<String>,
    /// Whether each column is a flag, 0 or 1. Differences of flags, which are −1, 0 or 1, are not.
    pub binary: Vec<bool>,
}

/// The data of a probe in three splits without common images.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSplits {
    /// Data to fit on.
    pub train: ProbeData,
    /// Data to choose the ridge on.
    pub validation: ProbeData,
    /// Held-out data.
    pub test: ProbeData,
    /// Names of parameters that are the same for all training images; they have no column.
    pub constant: Vec<String>,
}

/// The policy that `model` was trained with; for a model that does not record it, SimCLR's for its input size.
///
/// # Errors
/// If the record cannot be read.
pub fn policy_of(model: &Model) -> Result<Policy> {
    if model.description.is_some() {
        return Ok(AugmentationSpec::of(model)?.policy);
    }
    let size = model.preprocessing.size;
    let name = if size < LARGE { "simclr-cifar10" } else { "simclr-imagenet" };
    Ok(Policy::built_in(name, size)?)
}

/// Input size in pixels from which on a model is assumed to be trained on ImageNet rather than CIFAR.
const LARGE: usize = 96;

/// The views and parameters of one image.
struct Sampled {
    views: Vec<Image>,
    values: Vec<f32>,
}

/// Samples views of images with `policy` and computes their features. Images that do not decode are left out.
///
/// # Errors
/// If the policy has one view and pairs are asked for, or if a split would be empty.
pub fn collect(
    model: &Model,
    policy: Policy,
    dataset: &dyn Dataset,
    kind: ProbeKind,
    config: &ProbeConfig,
) -> Result<ProbeSplits> {
    let augmentation = AugmentationSpec::of_policy(policy, &dataset.sample_sizes(SIZES)?)?;
    let probe = Probe::new(&augmentation, kind, config.seed)?;
    let mut order = Sampler::new(config.seed, dataset.len(), 1).order(PROBE);
    order.truncate(config.images);
    let extractor = Extractor::new(model, None);
    let (mut features, mut rows) = (Vec::new(), Vec::new());
    for batch in order.chunks(BATCH) {
        let sampled = probe.sample(dataset, batch)?;
        if !sampled.is_empty() {
            features.extend(probe.features(&extractor, &sampled)?.flatten_all()?.to_vec1::<f32>()?);
            rows.extend(sampled.into_iter().map(|sampled| sampled.values));
        }
    }
    probe.splits(features, &rows, config)
}

/// Sampling of views and parameters for a probe.
struct Probe<'a> {
    augmentation: &'a AugmentationSpec,
    /// Layout of the parameters.
    layout: &'a ParamLayout,
    kind: ProbeKind,
    seed: u64,
}

impl<'a> Probe<'a> {
    fn new(augmentation: &'a AugmentationSpec, kind: ProbeKind, seed: u64) -> Result<Self> {
        let layout = match (kind, &augmentation.pairs) {
            (ProbeKind::Absolute, _) => &augmentation.layout,
            (ProbeKind::Relative, Some(pairs)) => pairs,
            (ProbeKind::Relative, None) => {
                let name = &augmentation.policy.name;
                return refuse(format!(
                    "the policy {name} has one view, so there are no pairs of views; use a policy with two"
                ));
            }
        };
        Ok(Self { augmentation, layout, kind, seed })
    }

    /// Number of views to sample from. Views 1 and 2 have the same size in every policy; others may be smaller.
    fn views(&self) -> usize {
        self.augmentation.policy.views.len().min(2)
    }

    fn sample(&self, dataset: &dyn Dataset, batch: &[usize]) -> Result<Vec<Sampled>> {
        let sample = |&sample: &usize| match dataset.image(sample) {
            Err(equimod_data::Error::Image { .. }) => Ok(None),
            image => Ok(Some(self.sample_one(&image?, sample))),
        };
        Ok(batch.par_iter().map(sample).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn sample_one(&self, image: &Image, sample: usize) -> Sampled {
        let size = image.size();
        let sampled = |number: usize| {
            self.augmentation.sample(number, size, &mut view_rng(self.seed, PROBE, sample as u64, number as u64))
        };
        let apply = |view: &SampledView| view.view.apply(image, &view.params);
        match self.kind {
            ProbeKind::Absolute => {
                let view = sampled(sample % self.views());
                let mut values = Vec::with_capacity(self.layout.width());
                self.layout.encode(view.view, &view.params, size, &mut values);
                Sampled { views: vec![apply(&view)], values }
            }
            ProbeKind::Relative => {
                let (one, other) = (sampled(0), sampled(1));
                let values = raw_pair(self.layout, &self.augmentation.policy, [&one, &other], size);
                Sampled { views: vec![apply(&one), apply(&other)], values }
            }
        }
    }

    /// Features `[images, features]` or, of pairs, `[images, 2 · features]`.
    fn features(&self, extractor: &Extractor, sampled: &[Sampled]) -> Result<Tensor> {
        let count = sampled.first().map_or(0, |sampled| sampled.views.len());
        let of_view = |number: usize| {
            let images: Vec<Image> = sampled.iter().map(|sampled| sampled.views[number].clone()).collect();
            extractor.tap_features(Tap::Pooled, &images)
        };
        let features = (0..count).map(of_view).collect::<Result<Vec<Tensor>>>()?;
        Ok(Tensor::cat(&features, 1)?)
    }

    /// Name `augmentation: value (unit)` of each parameter, and whether it is a flag.
    fn names(&self) -> Vec<(String, bool)> {
        let difference = if self.kind == ProbeKind::Relative { ", difference" } else { "" };
        let values = self.layout.values(&self.augmentation.policy).into_iter();
        let name = |value: equimod_data::ParamValue| {
            let name = format!("{}: {}{difference} ({})", value.augmentation, value.name, value.unit);
            (name, value.unit == FLAG && self.kind == ProbeKind::Absolute)
        };
        values.map(name).collect()
    }

    /// Images come in random order: the first are for the test, the next for validation, the others for training.
    fn splits(&self, features: Vec<f32>, rows: &[Vec<f32>], config: &ProbeConfig) -> Result<ProbeSplits> {
        let share = |share: f64| (rows.len() as f64 * share).round() as usize;
        let (test, validation) = (share(config.test), share(config.validation));
        if test == 0 || validation == 0 || test + validation >= rows.len() {
            return refuse(format!(
                "{} images cannot be split into training, {validation} for validation and {test} for the test; give \
                 more images \
                 or other shares",
                rows.len()
            ));
        }
        let features = Features::new(rows.len(), features.len() / rows.len(), features)?;
        let train: Vec<usize> = (test + validation..rows.len()).collect();
        let changes = |column: &usize| train.iter().any(|&row| rows[row][*column] != rows[train[0]][*column]);
        let (columns, constant): (Vec<usize>, Vec<usize>) = (0..self.layout.width()).partition(changes);
        let names = self.names();
        let split = |indices: Vec<usize>| ProbeData {
            features: features.select(&indices),
            targets: columns.iter().map(|&column| indices.iter().map(|&row| rows[row][column]).collect()).collect(),
            names: columns.iter().map(|&column| names[column].0.clone()).collect(),
            binary: columns.iter().map(|&column| names[column].1).collect(),
        };
        Ok(ProbeSplits {
            test: split((0..test).collect()),
            validation: split((test..test + validation).collect()),
            train: split(train.clone()),
            constant: constant.into_iter().map(|column| names[column].0.clone()).collect(),
        })
    }
}
