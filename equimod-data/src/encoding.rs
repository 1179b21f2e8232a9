//! From sampled parameters to normalised vectors: names, layout, means and deviations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::Size;
use crate::policy::{Policy, ViewParams, ViewPolicy};
use crate::random::statistics_rng;
use crate::{Error, Result};

/// How the values of a vector are made from parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// As the authors do: crops in pixels of the picture.
    #[default]
    Published,
    /// Crops as centre and size, in shares of the picture.
    SizeNormalised,
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "published" => Ok(Self::Published),
            "size-normalised" => Ok(Self::SizeNormalised),
            _ => Err(Error::Config(format!("there is no encoding {text:?}; there are published, size-normalised"))),
        }
    }
}

/// Where means and deviations come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statistics {
    /// From the policy and the pictures' sizes.
    #[serde(rename = "computed")]
    Computed,
    /// The authors' constants for SimCLR on CIFAR-10 (method, section 3).
    #[serde(rename = "published-simclr-cifar10")]
    PublishedSimClrCifar10,
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Computed => "computed",
            Self::PublishedSimClrCifar10 => "published-simclr-cifar10",
        })
    }
}

impl FromStr for Statistics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "computed" => Ok(Self::Computed),
            "published-simclr-cifar10" => Ok(Self::PublishedSimClrCifar10),
            _ => Err(Error::Config(format!(
                "there are no statistics {text:?}; there are computed, published-simclr-cifar10"
            ))),
        }
    }
}

/// Means of the 15 published values.
const SIMCLR_CIFAR10_MEAN: [f32; 15] = [
    4.3122, 4.3216, 23.369, 23.374, 0.49998, 0.80087, 1.2025, 1.4007, 1.5964, 1.8004, 0.99993, 1.0002, 0.99986,
    2.2321e-07, 0.19965,
];
/// Deviations of the 15 published values.
const SIMCLR_CIFAR10_STD: [f32; 15] = [
    3.9740, 3.9851, 4.9544, 4.9539, 0.5, 0.3993, 1.1651, 1.0210, 1.0200, 1.1669, 0.2066, 0.2068, 0.2066, 0.0517, 0.3997,
];

/// Draws from which computed statistics are taken: their relative error is about 1/√this.
const DRAWS: usize = 100_000;

/// The layout of a parameter vector and its statistics; written beside the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParamLayout {
    /// How values are made.
    pub encoding: Encoding,
    /// Where the statistics come from.
    pub statistics: Statistics,
    /// The name of each value.
    pub names: Vec<String>,
    /// Its mean.
    pub mean: Vec<f32>,
    /// Its deviation; 1 for a value that never changes.
    pub std: Vec<f32>,
}

impl ParamLayout {
    /// The layout for a policy over pictures of the given sizes (repeated as often as they occur).
    pub fn new(policy: &Policy, encoding: Encoding, statistics: Statistics, sizes: &[Size]) -> Result<Self> {
        let names = names(policy, encoding)?;
        let (mean, std) = match statistics {
            Statistics::Computed => computed(policy, encoding, names.len(), sizes)?,
            Statistics::PublishedSimClrCifar10 => (SIMCLR_CIFAR10_MEAN.to_vec(), SIMCLR_CIFAR10_STD.to_vec()),
        };
        if mean.len() != names.len() || (statistics != Statistics::Computed && encoding != Encoding::Published) {
            return Err(Error::Config(format!(
                "the statistics {statistics} are for {} values in the published encoding, this policy has {}; use computed ones",
                mean.len(),
                names.len()
            )));
        }
        Ok(Self { encoding, statistics, names, mean, std })
    }

    /// Values in a vector.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Appends the raw values of one view's parameters, drawn for a picture of `size`.
    pub fn encode(&self, view: &ViewPolicy, params: &ViewParams, size: Size, out: &mut Vec<f32>) {
        encode(view, params, size, self.encoding, out);
    }

    /// `(value − mean) / std` for vectors one after the other.
    pub fn normalise(&self, values: &mut [f32]) {
        for vector in values.chunks_exact_mut(self.width().max(1)) {
            for ((value, mean), std) in vector.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = (*value - mean) / std;
            }
        }
    }
}

fn encode(view: &ViewPolicy, params: &ViewParams, size: Size, encoding: Encoding, out: &mut Vec<f32>) {
    for (augmentation, params) in view.0.iter().zip(&params.0) {
        augmentation.as_augmentation().encode(params, size, encoding, out);
    }
}

/// The names of the values, which every view of the policy must share.
fn names(policy: &Policy, encoding: Encoding) -> Result<Vec<String>> {
    let of = |view: &ViewPolicy| -> Vec<String> {
        view.0.iter().flat_map(|a| a.as_augmentation().names(encoding)).map(|name| (*name).to_owned()).collect()
    };
    let mut all = policy.views.iter().map(of);
    let first = all.next().unwrap_or_default();
    match all.all(|names| names == first) {
        true => Ok(first),
        false => Err(Error::Config(format!("the views of policy {} have different parameters", policy.name))),
    }
}

/// Means and unbiased deviations over draws from every view, the sizes taken in turn.
fn computed(policy: &Policy, encoding: Encoding, width: usize, sizes: &[Size]) -> Result<(Vec<f32>, Vec<f32>)> {
    if sizes.is_empty() || policy.views.is_empty() {
        return Err(Error::Config("statistics need at least one picture and one view".into()));
    }
    let mut rng = statistics_rng();
    let (mut mean, mut square, mut values) = (vec![0f64; width], vec![0f64; width], Vec::new());
    for draw in 0..DRAWS {
        let view = &policy.views[draw % policy.views.len()];
        // Every size in turn, or, of more sizes than draws, evenly spaced ones.
        let size = sizes[if sizes.len() <= DRAWS { draw % sizes.len() } else { draw * sizes.len() / DRAWS }];
        values.clear();
        encode(view, &view.sample(size, &mut rng), size, encoding, &mut values);
        // Welford's update: no cancellation.
        for ((mean, square), &value) in mean.iter_mut().zip(&mut square).zip(&values) {
            let off = f64::from(value) - *mean;
            *mean += off / (draw + 1) as f64;
            *square += off * (f64::from(value) - *mean);
        }
    }
    let std = square.iter().map(|s| (s / (DRAWS - 1) as f64).sqrt());
    let std = std.map(|s| if s > 1e-9 { s as f32 } else { 1.0 }).collect();
    Ok((mean.into_iter().map(|m| m as f32).collect(), std))
}
