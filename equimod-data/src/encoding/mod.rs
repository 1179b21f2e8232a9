//! Encoding of sampled parameters as normalized vectors: names, layout, means and standard deviations.

mod published;
mod statistics;

use serde::{Deserialize, Serialize};

pub use crate::augment::{Encoding, Moments};
pub use statistics::{Measured, Statistics};

use crate::augment::{AugmentationConfig, Axis, Field, Params};
use crate::image::Size;
use crate::policy::{Policy, ViewParams, ViewPolicy};
use crate::spelling::deserialize_names;
use crate::{Error, Result};

/// Settings of a parameter vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutConfig {
    /// Encoding of the values.
    pub encoding: Encoding,
    /// Source of the means and standard deviations.
    pub statistics: Statistics,
    /// Names of values (`blur_sigma`) or of augmentations (`color-jitter`) to include; empty for all values.
    pub fields: Vec<String>,
}

/// Layout of a parameter vector with its statistics; saved with the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParamLayout {
    /// Encoding of the values.
    pub encoding: Encoding,
    /// Source of the statistics.
    pub statistics: Statistics,
    /// Name of each value.
    #[serde(deserialize_with = "deserialize_names")]
    pub names: Vec<String>,
    /// Mean of each value.
    pub mean: Vec<f32>,
    /// Standard deviation of each value; 1 for a constant value.
    pub std: Vec<f32>,
    /// Each value in a view without the augmentation; under the pairwise encoding, before differences are computed.
    pub neutral: Vec<f32>,
}

/// A value of a parameter vector under a policy; under the pairwise encoding, the value whose difference is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamValue<'a> {
    /// Name of the value.
    pub name: &'a str,
    /// Name of the augmentation that samples it.
    pub augmentation: &'a str,
    /// Unit, in words.
    pub unit: &'static str,
    /// Lower bound.
    pub least: f32,
    /// Upper bound; infinite if it depends on the size of the image.
    pub largest: f32,
}

impl ParamLayout {
    /// Creates the layout for a policy over images of the given sizes, each repeated as often as it occurs.
    ///
    /// # Errors
    ///
    /// If the policy is not valid or lacks a requested value, or the published statistics do not match the layout.
    pub fn new(policy: &Policy, config: &LayoutConfig, sizes: &[Size]) -> Result<Self> {
        let mut layout = Self::selected(policy, config)?;
        (layout.mean, layout.std) = match config.statistics.published() {
            Some(published) => layout.published_statistics(published)?,
            None => statistics::computed(policy, &layout, sizes)?,
        };
        Ok(layout)
    }

    /// Checks a layout for a policy, whatever the sizes of the images.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn check(policy: &Policy, config: &LayoutConfig) -> Result<()> {
        let layout = Self::selected(policy, config)?;
        config.statistics.published().map_or(Ok(()), |published| layout.published_statistics(published).map(drop))
    }

    /// The requested values, without their statistics.
    fn selected(policy: &Policy, config: &LayoutConfig) -> Result<Self> {
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
        Ok(layout)
    }

    /// Layout for differences in both directions between two views. The opposite direction has the opposite mean:
    /// over both, the mean is 0, and the standard deviation is the root mean square √(mean² + std²).
    pub fn both_ways(mut self) -> Self {
        for (mean, std) in self.mean.iter_mut().zip(&mut self.std) {
            (*mean, *std) = (0.0, mean.hypot(*std));
        }
        self
    }

    /// Layout of all values of all views, in the order of their first appearance.
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
                        return Err(Error::Config(text + "; use each augmentation once per view"));
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

    /// Keeps the values in `wanted`, which lists names of values or of augmentations.
    fn select(&mut self, policy: &Policy, wanted: &[String]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let augmentations = || policy.views.iter().flat_map(|view| &view.0);
        let names_of = |augmentation: &AugmentationConfig| augmentation.as_augmentation().fields(self.encoding);
        let mut keep = vec![false; self.names.len()];
        for name in wanted {
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

    /// The authors' means and standard deviations of the values in the layout.
    fn published_statistics(&self, published: published::Constants) -> Result<(Vec<f32>, Vec<f32>)> {
        let place = |name: &String| published::NAMES.iter().position(|known| known == name);
        let places: Option<Vec<usize>> = match self.encoding {
            Encoding::Published => self.names.iter().map(place).collect(),
            _ => None,
        };
        let places = places.filter(|places| places.iter().all(|&place| place < published.mean.len()));
        let Some(places) = places else {
            return Err(Error::Config(format!(
                "the statistics {} are for {} values in the published encoding, this layout is {} and has {}; \
                 set augmentation.statistics = \"computed\"",
                self.statistics,
                published.mean.len(),
                self.encoding,
                self.names.len()
            )));
        };
        let of = |values: &[f32]| places.iter().map(|&place| values[place]).collect();
        Ok((of(&published.mean), of(&published.std)))
    }

    /// Number of values in a vector.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Number of vectors per image: one per view, or one for the pair of views.
    pub fn vectors(&self, policy: &Policy) -> usize {
        if self.encoding == Encoding::Pairwise { 1 } else { policy.views.len() }
    }

    /// Appends the raw values of one view's parameters, sampled for an image of `size`. Under the pairwise encoding,
    /// these are the values whose differences are computed.
    pub fn encode(&self, view: &ViewPolicy, params: &ViewParams, size: Size, out: &mut Vec<f32>) {
        let start = out.len();
        out.extend_from_slice(&self.neutral);
        let mut cursor = 0;
        let mut values = Vec::with_capacity(16);
        view.each(params, size, |augmentation, params, size| {
            values.clear();
            augmentation.encode(params, size, self.encoding, &mut values);
            for (field, &value) in augmentation.fields(self.encoding).iter().zip(&values) {
                // Usually, the next name matches.
                let (before, from) = self.names.split_at(cursor);
                let after = from.iter().position(|name| name == field.name).map(|k| cursor + k);
                if let Some(place) = after.or_else(|| before.iter().position(|name| name == field.name)) {
                    out[start + place] = value;
                    cursor = (place + 1) % self.names.len();
                }
            }
        });
    }

    /// Appends the raw values of an image's views to `out`, which has [`vectors`](Self::vectors) entries.
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

    /// Appends the raw values from one view of an image to another under the pairwise encoding; `from` and `to` are
    /// indices of views.
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
            // A subtraction instead of a negation keeps 0 from becoming −0.
            out[start + place] = 0.0 - out[start + place];
        }
    }

    /// Indices of the values whose difference from a view changes its sign because the view is mirrored along their
    /// axis.
    fn mirrored(&self, view: &ViewPolicy, params: &ViewParams) -> Vec<usize> {
        if !view.is_mirrored(params, Axis::X) && !view.is_mirrored(params, Axis::Y) {
            return Vec::new();
        }
        let fields = view.0.iter().flat_map(|augmentation| augmentation.as_augmentation().fields(self.encoding));
        let mirrored = fields.filter(|field| field.axis.is_some_and(|axis| view.is_mirrored(params, axis)));
        mirrored.filter_map(|field| self.names.iter().position(|name| name == field.name)).collect()
    }

    /// Inverse of [`encode`](Self::encode) for the raw `values` of one view, up to rounding.
    ///
    /// # Errors
    ///
    /// If the layout lacks a value of one of the augmentations, or has the pairwise encoding.
    pub fn decode(&self, view: &ViewPolicy, values: &[f32], size: Size) -> Result<ViewParams> {
        if self.encoding == Encoding::Pairwise {
            return Err(Error::Config(
                "parameters of a view cannot be recovered from differences between views".into(),
            ));
        }
        let mut size = size;
        let decode = |augmentation: &AugmentationConfig| {
            let augmentation = augmentation.as_augmentation();
            let value = |field: &Field| -> Result<f32> {
                let place = self.names.iter().position(|name| name == field.name);
                place.and_then(|place| values.get(place).copied()).ok_or_else(|| {
                    Error::Config(format!("parameters cannot be decoded without the value {}", field.name))
                })
            };
            let values = augmentation.fields(self.encoding).iter().map(value).collect::<Result<Vec<f32>>>()?;
            let params = augmentation.decode(&values, size, self.encoding);
            size = augmentation.output_size(size, &params);
            Ok(params)
        };
        Ok(ViewParams(view.0.iter().map(decode).collect::<Result<Vec<Params>>>()?))
    }

    /// Replaces each value by `(value − mean) / std`; `values` holds vectors one after the other.
    pub fn normalize(&self, values: &mut [f32]) {
        for vector in values.chunks_exact_mut(self.width().max(1)) {
            for ((value, mean), std) in vector.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = (*value - mean) / std;
            }
        }
    }

    /// Means and standard deviations over `draws` samples, cycling through `sizes`.
    ///
    /// # Errors
    ///
    /// If there are no sizes or views, or fewer than two draws.
    pub fn measure(&self, policy: &Policy, sizes: &[Size], draws: usize) -> Result<Measured> {
        statistics::measure(policy, self, sizes, draws)
    }

    /// Mean and standard deviation of each value where the settings determine them.
    pub fn analytic(&self, policy: &Policy) -> Vec<Option<(f64, f64)>> {
        statistics::analytic(policy, self).into_iter().map(|m| m.map(|m| (m.mean, m.std()))).collect()
    }

    /// Name, augmentation, unit and bounds of each value.
    pub fn values<'a>(&'a self, policy: &'a Policy) -> Vec<ParamValue<'a>> {
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
