//! Means and standard deviations of encoded values: analytic where the settings determine them, otherwise sampled.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::published::{self, Constants};
use super::{Encoding, ParamLayout};
use crate::augment::{AugmentationConfig, Moments};
use crate::image::Size;
use crate::policy::{Policy, ViewPolicy};
use crate::random::statistics_rng;
use crate::{Error, Result};

/// Source of means and standard deviations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Statistics {
    /// Computed from the policy and the sizes of the images.
    #[default]
    #[serde(rename = "computed")]
    Computed,
    /// The constants in the authors' code for SimCLR on CIFAR-10.
    #[serde(rename = "published-simclr-cifar10")]
    PublishedSimClrCifar10,
    /// The authors' constants for SimCLR on ImageNet.
    #[serde(rename = "published-simclr-imagenet")]
    PublishedSimClrImageNet,
    /// The authors' constants for BYOL on CIFAR-10.
    #[serde(rename = "published-byol-cifar10")]
    PublishedByolCifar10,
    /// The authors' constants for BYOL on ImageNet.
    #[serde(rename = "published-byol-imagenet")]
    PublishedByolImageNet,
}

impl Statistics {
    /// All sources of statistics.
    pub const ALL: [Self; 5] = [
        Self::Computed,
        Self::PublishedSimClrCifar10,
        Self::PublishedSimClrImageNet,
        Self::PublishedByolCifar10,
        Self::PublishedByolImageNet,
    ];

    /// Name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::PublishedSimClrCifar10 => "published-simclr-cifar10",
            Self::PublishedSimClrImageNet => "published-simclr-imagenet",
            Self::PublishedByolCifar10 => "published-byol-cifar10",
            Self::PublishedByolImageNet => "published-byol-imagenet",
        }
    }

    pub(super) fn published(self) -> Option<Constants> {
        match self {
            Self::Computed => None,
            Self::PublishedSimClrCifar10 => Some(published::simclr_cifar10()),
            Self::PublishedSimClrImageNet => Some(published::simclr_imagenet()),
            Self::PublishedByolCifar10 => Some(published::byol(published::simclr_cifar10())),
            Self::PublishedByolImageNet => Some(published::byol(published::simclr_imagenet())),
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Statistics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|statistics| statistics.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Config(format!("there are no statistics {text:?}; there are {names}"))
        })
    }
}

/// Measured means and unbiased standard deviations.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Mean of each value.
    pub mean: Vec<f64>,
    /// Standard deviation of each value.
    pub std: Vec<f64>,
}

/// Number of samples for the statistics; their relative error is about 1/√DRAWS.
const DRAWS: usize = 100_000;
/// Values with a standard deviation below this are constant.
const CONSTANT: f64 = 1e-7;

/// Mean and standard deviation of every value; the standard deviation of a constant value is 1.
pub(super) fn computed(policy: &Policy, layout: &ParamLayout, sizes: &[Size]) -> Result<(Vec<f32>, Vec<f32>)> {
    let analytic = analytic(policy, layout);
    let sampled = match analytic.iter().all(Option::is_some) {
        true => Measured { mean: vec![0.0; layout.width()], std: vec![0.0; layout.width()] },
        false => measure(policy, layout, sizes, DRAWS)?,
    };
    let values = analytic.iter().zip(sampled.mean.iter().zip(&sampled.std));
    let values = values.map(|(known, (&mean, &std))| known.map_or((mean, std), |m| (m.mean, m.std())));
    let rounded = |(mean, std): (f64, f64)| (mean as f32, if std > CONSTANT { std as f32 } else { 1.0 });
    Ok(values.map(rounded).unzip())
}

/// Moments of each value over all views where the settings determine them.
pub(super) fn analytic(policy: &Policy, layout: &ParamLayout) -> Vec<Option<Moments>> {
    let of_view = |view: &ViewPolicy, place: usize| -> Option<Moments> {
        let name = &layout.names[place];
        for augmentation in view.0.iter().map(AugmentationConfig::as_augmentation) {
            if let Some(k) = augmentation.fields(layout.encoding).iter().position(|field| field.name == name) {
                return augmentation.moments(layout.encoding).get(k).copied().flatten();
            }
        }
        Some(Moments::constant(f64::from(layout.neutral[place])))
    };
    let of = |place: usize| match (layout.encoding, policy.views.as_slice()) {
        (Encoding::Pairwise, [one, other, ..]) => Some(of_view(one, place)?.difference(of_view(other, place)?)),
        (_, views) => {
            let moments = views.iter().map(|view| of_view(view, place)).collect::<Option<Vec<_>>>()?;
            let average = |f: fn(&Moments) -> f64| moments.iter().map(f).sum::<f64>() / moments.len() as f64;
            Some(Moments { mean: average(|m| m.mean), square: average(|m| m.square) })
        }
    };
    (0..layout.width()).map(of).collect()
}

/// Means and unbiased standard deviations over samples of every view, cycling through `sizes`.
pub(super) fn measure(policy: &Policy, layout: &ParamLayout, sizes: &[Size], draws: usize) -> Result<Measured> {
    let vectors = layout.vectors(policy);
    if sizes.is_empty() || vectors == 0 || draws < 2 {
        return Err(Error::Config("statistics need at least one image, one view and two draws".into()));
    }
    let mut rng = statistics_rng();
    let width = layout.width();
    let (mut mean, mut square) = (vec![0f64; width], vec![0f64; width]);
    let mut vector = Vec::with_capacity(width);
    for draw in 0..draws {
        // Cycles through every view of every size; if there are more sizes than samples, through evenly spaced sizes.
        let (turn, turns) = (draw / vectors, draws.div_ceil(vectors));
        let size = sizes[if sizes.len() <= turns { turn % sizes.len() } else { turn * sizes.len() / turns }];
        vector.clear();
        if layout.encoding == Encoding::Pairwise {
            let drawn: Vec<_> = policy.views.iter().map(|view| view.sample(size, &mut rng)).collect();
            layout.encode_views(policy, &drawn, size, std::slice::from_mut(&mut vector));
        } else {
            let view = &policy.views[draw % vectors];
            layout.encode(view, &view.sample(size, &mut rng), size, &mut vector);
        }
        // Welford's update, which avoids cancellation.
        for ((mean, square), &value) in mean.iter_mut().zip(&mut square).zip(&vector) {
            let off = f64::from(value) - *mean;
            *mean += off / (draw + 1) as f64;
            *square += off * (f64::from(value) - *mean);
        }
    }
    let std = square.iter().map(|s| (s / (draws - 1) as f64).sqrt()).collect();
    Ok(Measured { mean, std })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_small_cases() {
        let faces = Moments::one_of(4);
        assert_eq!((faces.mean, faces.square), (1.5, 3.5));
        assert_eq!(Moments::uniform((0.0, 3.0)).square, 3.0);
        let mixed = Moments::mix(0.25, Moments::constant(4.0), Moments::constant(0.0));
        assert_eq!((mixed.mean, mixed.square), (1.0, 4.0));
        let difference = Moments::flag(0.5).difference(Moments::flag(0.5));
        assert_eq!((difference.mean, difference.square), (0.0, 0.5));
        assert_eq!(Moments::constant(0.3).std(), 0.0);
    }
}
