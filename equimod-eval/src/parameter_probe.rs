//! Data for parameter probes: features of views, and what was done to the pictures, to be read from them.
//!
//! Absolute: the features `h` of one view and its parameters. Relative: `[h1, h2]` of two views of a picture and the
//! differences of their parameters. Values are raw, in the units of the size-normalised encoding, and of all augmentations of
//! the policy, so that models that were trained with different layouts compare.

use candle_core::Tensor;
use equimod_core::{Model, Tap};
use equimod_data::augment::FLAG;
use equimod_data::{Dataset, Image, ParamLayout, Policy, Sampler, view_rng};
use rayon::prelude::*;

use crate::error::refuse;
use crate::features::Extractor;
use crate::views::{Augmentation, Drawn, EPOCH, raw_pair};
use crate::{Features, Result};

/// Views come from this epoch of the generator.
const PROBE: u64 = EPOCH - 3;

/// Pictures that are augmented and go through the backbone together.
const BATCH: usize = 64;

/// Pictures whose sizes statistics are made of; raw values do not depend on them.
const SIZES: usize = 64;

/// What parameters are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// One view; views 1 and 2 of the policy in turn.
    Absolute,
    /// Views 1 and 2 together.
    Relative,
}

/// What a probe takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeConfig {
    /// Pictures, at most; one draw of the augmentations each.
    pub pictures: usize,
    /// The share of them that validates.
    pub validation: f64,
    /// The share of them that tests.
    pub test: f64,
    /// Decides pictures, parts and views.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { pictures: 4000, validation: 0.2, test: 0.2, seed: 0 }
    }
}

/// Features of pictures' views and the parameters behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeData {
    /// One row a picture: `[features]`, or `[features of view 1, features of view 2]`.
    pub features: Features,
    /// A column for each parameter, a value a picture.
    pub targets: Vec<Vec<f32>>,
    /// What each column is: `augmentation: value (unit)`, or `augmentation: value, difference (unit)`.
    pub names: Vec<String>,
    /// Whether a column holds nothing but 0 and 1. Differences of flags are −1, 0 or 1 and do not count.
    pub binary: Vec<bool>,
}

/// The data of a probe, no picture in two parts.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeParts {
    /// To fit on.
    pub train: ProbeData,
    /// To choose the penalty on.
    pub validation: ProbeData,
    /// To report on.
    pub test: ProbeData,
    /// The names of values that are the same in all training pictures: there is nothing to read, they have no column.
    pub constant: Vec<String>,
}

/// The policy that `model` was trained with; of a model that does not say, SimCLR's for its size.
pub fn policy_of(model: &Model) -> Result<Policy> {
    if model.description.is_some() {
        return Ok(Augmentation::of(model)?.policy);
    }
    let size = model.preprocessing.size;
    let name = if size < LARGE { "simclr-cifar10" } else { "simclr-imagenet" };
    Ok(Policy::built_in(name, size)?)
}

/// From this side on, in pixels, pictures are taken for ImageNet's rather than CIFAR's.
const LARGE: usize = 96;

/// One picture's views and parameters.
struct Sampled {
    views: Vec<Image>,
    values: Vec<f32>,
}

/// Draws views of pictures by `policy` and computes their features; pictures that do not decode are left out.
///
/// # Errors
/// If the policy has one view and pairs are asked for, or if a part would hold no picture.
pub fn collect(
    model: &Model,
    policy: Policy,
    dataset: &dyn Dataset,
    kind: ProbeKind,
    config: &ProbeConfig,
) -> Result<ProbeParts> {
    let augmentation = Augmentation::of_policy(policy, &dataset.sample_sizes(SIZES)?)?;
    let probe = Probe::new(&augmentation, kind, config.seed)?;
    let mut order = Sampler::new(config.seed, dataset.len(), 1).order(PROBE);
    order.truncate(config.pictures);
    let extractor = Extractor::new(model, None);
    let (mut features, mut rows) = (Vec::new(), Vec::new());
    for batch in order.chunks(BATCH) {
        let sampled = probe.sample(dataset, batch)?;
        if !sampled.is_empty() {
            features.extend(probe.features(&extractor, &sampled)?.flatten_all()?.to_vec1::<f32>()?);
            rows.extend(sampled.into_iter().map(|sampled| sampled.values));
        }
    }
    probe.parts(features, &rows, config)
}

/// How a probe looks at pictures.
struct Probe<'a> {
    augmentation: &'a Augmentation,
    /// Of the values.
    layout: &'a ParamLayout,
    kind: ProbeKind,
    seed: u64,
}

impl<'a> Probe<'a> {
    fn new(augmentation: &'a Augmentation, kind: ProbeKind, seed: u64) -> Result<Self> {
        let layout = match (kind, &augmentation.pairs) {
            (ProbeKind::Absolute, _) => &augmentation.layout,
            (ProbeKind::Relative, Some(pairs)) => pairs,
            (ProbeKind::Relative, None) => {
                let name = &augmentation.policy.name;
                return refuse(format!("policy {name} has one view and no pairs; use a policy of two views"));
            }
        };
        Ok(Self { augmentation, layout, kind, seed })
    }

    /// Views 1 and 2 have the same size in every policy; others may be smaller.
    fn views(&self) -> usize {
        self.augmentation.policy.views.len().min(2)
    }

    fn sample(&self, dataset: &dyn Dataset, batch: &[usize]) -> Result<Vec<Sampled>> {
        let sample = |&sample: &usize| match dataset.image(sample) {
            Err(equimod_data::Error::Picture { .. }) => Ok(None),
            image => Ok(Some(self.sample_one(&image?, sample))),
        };
        Ok(batch.par_iter().map(sample).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn sample_one(&self, image: &Image, sample: usize) -> Sampled {
        let size = image.size();
        let draw = |number: usize| {
            self.augmentation.draw(number, size, &mut view_rng(self.seed, PROBE, sample as u64, number as u64))
        };
        let apply = |drawn: &Drawn| drawn.view.apply(image, &drawn.params);
        match self.kind {
            ProbeKind::Absolute => {
                let drawn = draw(sample % self.views());
                let mut values = Vec::with_capacity(self.layout.width());
                self.layout.encode(drawn.view, &drawn.params, size, &mut values);
                Sampled { views: vec![apply(&drawn)], values }
            }
            ProbeKind::Relative => {
                let (one, other) = (draw(0), draw(1));
                let values = raw_pair(self.layout, &self.augmentation.policy, [&one, &other], size);
                Sampled { views: vec![apply(&one), apply(&other)], values }
            }
        }
    }

    /// `[pictures, features]`, or twice as many features.
    fn features(&self, extractor: &Extractor, sampled: &[Sampled]) -> Result<Tensor> {
        let count = sampled.first().map_or(0, |sampled| sampled.views.len());
        let of_view = |number: usize| {
            let images: Vec<Image> = sampled.iter().map(|sampled| sampled.views[number].clone()).collect();
            extractor.at(Tap::Pooled, &images)
        };
        let features = (0..count).map(of_view).collect::<Result<Vec<Tensor>>>()?;
        Ok(Tensor::cat(&features, 1)?)
    }

    /// `augmentation: value (unit)` of each value, and whether it is a flag.
    fn names(&self) -> Vec<(String, bool)> {
        let difference = if self.kind == ProbeKind::Relative { ", difference" } else { "" };
        let values = self.layout.values(&self.augmentation.policy).into_iter();
        let name = |value: equimod_data::ParamValue| {
            let name = format!("{}: {}{difference} ({})", value.augmentation, value.name, value.unit);
            (name, value.unit == FLAG && self.kind == ProbeKind::Absolute)
        };
        values.map(name).collect()
    }

    /// The pictures come in random order: the first test, the next validate, the others train.
    fn parts(&self, features: Vec<f32>, rows: &[Vec<f32>], config: &ProbeConfig) -> Result<ProbeParts> {
        let share = |share: f64| (rows.len() as f64 * share).round() as usize;
        let (test, validation) = (share(config.test), share(config.validation));
        if test == 0 || validation == 0 || test + validation >= rows.len() {
            return refuse(format!(
                "{} pictures cannot be parted into training, {validation} for validation and {test} for the test; take more, or \
                 other shares",
                rows.len()
            ));
        }
        let features = Features::new(rows.len(), features.len() / rows.len(), features)?;
        let train: Vec<usize> = (test + validation..rows.len()).collect();
        let changes = |column: &usize| train.iter().any(|&row| rows[row][*column] != rows[train[0]][*column]);
        let (columns, constant): (Vec<usize>, Vec<usize>) = (0..self.layout.width()).partition(changes);
        let names = self.names();
        let part = |places: Vec<usize>| ProbeData {
            features: features.select(&places),
            targets: columns.iter().map(|&column| places.iter().map(|&row| rows[row][column]).collect()).collect(),
            names: columns.iter().map(|&column| names[column].0.clone()).collect(),
            binary: columns.iter().map(|&column| names[column].1).collect(),
        };
        Ok(ProbeParts {
            test: part((0..test).collect()),
            validation: part((test..test + validation).collect()),
            train: part(train.clone()),
            constant: constant.into_iter().map(|column| names[column].0.clone()).collect(),
        })
    }
}
