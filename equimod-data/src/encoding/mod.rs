//! From sampled parameters to normalized vectors: names, layout, means and deviations.

mod published;
mod statistics;

use serde::{Deserialize, Serialize};

pub use crate::augment::{Encoding, Moments};
pub use statistics::{Measured, Statistics};

use crate::augment::{AugmentationConfig, Axis, Field, Params};
use crate::image::Size;
use crate::policy::{Policy, ViewParams, ViewPolicy};
use crate::spelling::{deserialize_names, modern};
use crate::{Error, Result};

/// What a vector is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutConfig {
    /// How values are made.
    pub encoding: Encoding,
    /// Where their means and deviations come from.
    pub statistics: Statistics,
    /// Names of values (`blur_sigma`) or of augmentations (`color-jitter`); all values if there are none.
    pub fields: Vec<String>,
}

/// The layout of a parameter vector and its statistics; written beside the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParamLayout {
    /// How values are made.
    pub encoding: Encoding,
    /// Where the statistics come from.
    pub statistics: Statistics,
    /// The name of each value.
    #[serde(deserialize_with = "deserialize_names")]
    pub names: Vec<String>,
    /// Its mean.
    pub mean: Vec<f32>,
    /// Its deviation; 1 for a value that never changes.
    pub std: Vec<f32>,
    /// Its value in a view that lacks the augmentation; under the pairwise encoding, before differences are taken.
    pub neutral: Vec<f32>,
}

/// A value of a parameter vector, under a policy; under the pairwise encoding, that which differences are taken of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamValue<'a> {
    /// Its name.
    pub name: &'a str,
    /// The augmentation it belongs to.
    pub augmentation: &'static str,
    /// What it is measured in.
    pub unit: &'static str,
    /// The least it can be.
    pub least: f32,
    /// The most it can be; without end where that depends on the picture's size.
    pub largest: f32,
}

impl ParamLayout {
    /// The layout for a policy over pictures of the given sizes (repeated as often as they occur).
    pub fn new(policy: &Policy, config: &LayoutConfig, sizes: &[Size]) -> Result<Self> {
        policy.check()?;
        let mut layout = Self::without_statistics(policy, config.encoding)?;
        layout.select(policy, &config.fields)?;
        if config.encoding == Encoding::Pairwise && policy.views.len() < 2 {
            return Err(Error::Config(format!(
                "policy {} has no pair of views for the pairwise encoding",
                policy.name
            )));
        }
        layout.statistics = config.statistics;
        (layout.mean, layout.std) = match config.statistics.published() {
            Some(published) => layout.published_statistics(published)?,
            None => statistics::computed(policy, &layout, sizes)?,
        };
        Ok(layout)
    }

    /// For differences that are taken both ways between two views: the way back has the opposite mean, so that over both it
    /// is 0, and what the deviation is about.
    pub fn both_ways(mut self) -> Self {
        for (mean, std) in self.mean.iter_mut().zip(&mut self.std) {
            (*mean, *std) = (0.0, mean.hypot(*std));
        }
        self
    }

    /// Every value of every view, in the order of their first appearance.
    fn without_statistics(policy: &Policy, encoding: Encoding) -> Result<Self> {
        let (mut names, mut neutral): (Vec<String>, Vec<f32>) = (Vec::new(), Vec::new());
        let size = Size::square(policy.size());
        for view in &policy.views {
            let mut seen: Vec<&str> = Vec::new();
            for augmentation in view.0.iter().map(AugmentationConfig::as_augmentation) {
                let mut values = Vec::new();
                augmentation.encode(&augmentation.identity(size), size, encoding, &mut values);
                for (Field { name, .. }, value) in augmentation.fields(encoding).iter().zip(values) {
                    if seen.contains(name) {
                        let text = format!("a view of policy {} has the parameter {name} twice", policy.name);
                        return Err(Error::Config(text + "; use each augmentation once a view"));
                    }
                    seen.push(name);
                    if !names.iter().any(|known| known == name) {
                        names.push((*name).to_owned());
                        neutral.push(value);
                    }
                }
            }
        }
        let statistics = Statistics::Computed;
        Ok(Self { encoding, statistics, names, mean: Vec::new(), std: Vec::new(), neutral })
    }

    /// Keeps the values in `wanted`, by their own name or that of their augmentation.
    fn select(&mut self, policy: &Policy, wanted: &[String]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let augmentations = || policy.views.iter().flat_map(|view| &view.0);
        let names_of = |augmentation: &AugmentationConfig| augmentation.as_augmentation().fields(self.encoding);
        let mut keep = vec![false; self.names.len()];
        for name in wanted.iter().map(|name| modern(name)) {
            let group = augmentations().find(|a| a.name() == name).map(names_of).unwrap_or_default();
            let mut found = false;
            for (keep, known) in keep.iter_mut().zip(&self.names) {
                if known == name || group.iter().any(|field| field.name == known) {
                    (*keep, found) = (true, true);
                }
            }
            if !found {
                let mut known: Vec<&str> = augmentations().map(AugmentationConfig::name).collect();
                known.sort_unstable();
                known.dedup();
                return Err(Error::Config(format!(
                    "policy {} has no parameter {name:?} to encode; there are {}, and the augmentations {}",
                    policy.name,
                    self.names.join(", "),
                    known.join(", ")
                )));
            }
        }
        let mut kept = keep.iter();
        self.names.retain(|_| kept.next().copied().unwrap_or(false));
        let mut kept = keep.iter();
        self.neutral.retain(|_| kept.next().copied().unwrap_or(false));
        Ok(())
    }

    /// The authors' constants for the values in the layout.
    fn published_statistics(&self, published: published::Constants) -> Result<(Vec<f32>, Vec<f32>)> {
        let place = |name: &String| published::NAMES.iter().position(|known| known == name);
        let places: Option<Vec<usize>> = match self.encoding {
            Encoding::Published => self.names.iter().map(place).collect(),
            _ => None,
        };
        let places = places.filter(|places| places.iter().all(|&place| place < published.mean.len()));
        let Some(places) = places else {
            return Err(Error::Config(format!(
                "the statistics {} are for {} values in the published encoding, this layout is {} and has {}; set augmentation.statistics = \"computed\"",
                self.statistics,
                published.mean.len(),
                self.encoding,
                self.names.len()
            )));
        };
        let of = |values: &[f32]| places.iter().map(|&place| values[place]).collect();
        Ok((of(&published.mean), of(&published.std)))
    }

    /// Values in a vector.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Vectors that a picture has: one a view, or one for the pair.
    pub fn vectors(&self, policy: &Policy) -> usize {
        if self.encoding == Encoding::Pairwise { 1 } else { policy.views.len() }
    }

    /// Appends the raw values of one view's parameters, drawn for a picture of `size`; under the pairwise encoding,
    /// those that differences are taken of.
    pub fn encode(&self, view: &ViewPolicy, params: &ViewParams, size: Size, out: &mut Vec<f32>) {
        let start = out.len();
        out.extend_from_slice(&self.neutral);
        let mut cursor = 0;
        let mut values = Vec::with_capacity(16);
        view.each(params, size, |augmentation, params, size| {
            values.clear();
            augmentation.encode(params, size, self.encoding, &mut values);
            for (field, &value) in augmentation.fields(self.encoding).iter().zip(&values) {
                // Mostly the next one.
                let (before, from) = self.names.split_at(cursor);
                let after = from.iter().position(|name| name == field.name).map(|k| cursor + k);
                if let Some(place) = after.or_else(|| before.iter().position(|name| name == field.name)) {
                    out[start + place] = value;
                    cursor = (place + 1) % self.names.len();
                }
            }
        });
    }

    /// Appends the raw values of a picture's views to `out`, which has [`vectors`](Self::vectors) entries.
    pub fn encode_views(&self, policy: &Policy, drawn: &[ViewParams], size: Size, out: &mut [Vec<f32>]) {
        let views = policy.views.iter().zip(drawn);
        if self.encoding != Encoding::Pairwise {
            views.zip(out).for_each(|((view, params), out)| self.encode(view, params, size, out));
            return;
        }
        if let [out, ..] = out {
            self.encode_pair(policy, drawn, size, (0, 1), out);
        }
    }

    /// Appends the raw values from one view of a picture to another under the pairwise encoding, views by their numbers.
    pub fn encode_pair(
        &self,
        policy: &Policy,
        drawn: &[ViewParams],
        size: Size,
        (from, to): (usize, usize),
        out: &mut Vec<f32>,
    ) {
        let view = |number: usize| Some((policy.views.get(number)?, drawn.get(number)?));
        let (Some((first, one)), Some((second, other))) = (view(from), view(to)) else { return };
        let (mut from, mut to) = (Vec::with_capacity(self.width()), Vec::with_capacity(self.width()));
        self.encode(first, one, size, &mut from);
        self.encode(second, other, size, &mut to);
        let start = out.len();
        out.extend(from.iter().zip(&to).map(|(from, to)| to - from));
        for place in self.mirrored(first, one) {
            // Not a change of sign: 0 stays 0.
            out[start + place] = 0.0 - out[start + place];
        }
    }

    /// The values whose difference from a view has the opposite sign, because the view is mirrored along their axis.
    fn mirrored(&self, view: &ViewPolicy, params: &ViewParams) -> Vec<usize> {
        if !view.is_mirrored(params, Axis::X) && !view.is_mirrored(params, Axis::Y) {
            return Vec::new();
        }
        let fields = view.0.iter().flat_map(|augmentation| augmentation.as_augmentation().fields(self.encoding));
        let mirrored = fields.filter(|field| field.axis.is_some_and(|axis| view.is_mirrored(params, axis)));
        mirrored.filter_map(|field| self.names.iter().position(|name| name == field.name)).collect()
    }

    /// The parameters that encode to `values` (raw, one view), up to rounding. Not of a subset of the values, and not
    /// of differences.
    pub fn decode(&self, view: &ViewPolicy, values: &[f32], size: Size) -> Result<ViewParams> {
        if self.encoding == Encoding::Pairwise {
            return Err(Error::Config("differences between views do not say what either view was".into()));
        }
        let mut size = size;
        let decode = |augmentation: &AugmentationConfig| {
            let augmentation = augmentation.as_augmentation();
            let value = |field: &Field| -> Result<f32> {
                let place = self.names.iter().position(|name| name == field.name);
                place.and_then(|place| values.get(place).copied()).ok_or_else(|| {
                    Error::Config(format!("parameters cannot be read back without the value {}", field.name))
                })
            };
            let values = augmentation.fields(self.encoding).iter().map(value).collect::<Result<Vec<f32>>>()?;
            let params = augmentation.decode(&values, size, self.encoding);
            size = augmentation.output_size(size, &params);
            Ok(params)
        };
        Ok(ViewParams(view.0.iter().map(decode).collect::<Result<Vec<Params>>>()?))
    }

    /// `(value − mean) / std` for vectors one after the other.
    pub fn normalize(&self, values: &mut [f32]) {
        for vector in values.chunks_exact_mut(self.width().max(1)) {
            for ((value, mean), std) in vector.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = (*value - mean) / std;
            }
        }
    }

    /// Means and deviations over `draws` draws, the sizes taken in turn.
    pub fn measure(&self, policy: &Policy, sizes: &[Size], draws: usize) -> Result<Measured> {
        statistics::measure(policy, self, sizes, draws)
    }

    /// Mean and deviation of each value where they follow from the settings alone.
    pub fn analytic(&self, policy: &Policy) -> Vec<Option<(f64, f64)>> {
        statistics::analytic(policy, self).into_iter().map(|m| m.map(|m| (m.mean, m.std()))).collect()
    }

    /// Each value: what it belongs to and is measured in, and how far it goes.
    pub fn values(&self, policy: &Policy) -> Vec<ParamValue<'_>> {
        let augmentations = || policy.views.iter().flat_map(|view| &view.0);
        let names = self.names.iter().zip(&self.neutral);
        let values = names.map(|(name, &neutral)| {
            let mut value = ParamValue { name, augmentation: "", unit: "", least: neutral, largest: neutral };
            for config in augmentations() {
                let augmentation = config.as_augmentation();
                let fields = augmentation.fields(self.encoding).iter().zip(augmentation.bounds(self.encoding));
                for (field, (low, high)) in fields.filter(|(field, _)| field.name == name) {
                    (value.augmentation, value.unit) = (config.name(), field.unit);
                    value.least = value.least.min(low as f32);
                    value.largest = value.largest.max(high as f32);
                }
            }
            value
        });
        values.collect()
    }
}
