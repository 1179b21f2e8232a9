//! Policies: an ordered list of augmentations for each view, and how the clean picture is made. Policies are data.

use serde::{Deserialize, Serialize};

use crate::augment::{AugmentationConfig, ColourJitter, Grayscale, HorizontalFlip, Params, RandomResizedCrop};
use crate::image::{Image, Size};
use crate::random::Rng;
use crate::resample::{Filter, centre_crop, resize, shorter_side};
use crate::{Error, Result};

/// What one view of one picture sampled: the parameters of each augmentation, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewParams(pub Vec<Params>);

/// The augmentations of one view, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewPolicy(pub Vec<AugmentationConfig>);

impl ViewPolicy {
    /// Draws the parameters of every augmentation for a picture of `size`.
    pub fn sample(&self, size: Size, rng: &mut Rng) -> ViewParams {
        ViewParams(self.0.iter().map(|a| a.as_augmentation().sample(size, rng)).collect())
    }

    /// Applies the augmentations in order.
    pub fn apply(&self, image: &Image, params: &ViewParams) -> Image {
        let steps = self.0.iter().zip(&params.0);
        steps.fold(image.clone(), |image, (a, params)| a.as_augmentation().apply(image, params))
    }

    /// The parameters that change nothing of a picture that has the output's size already.
    pub fn identity(&self, size: Size) -> ViewParams {
        ViewParams(self.0.iter().map(|a| a.as_augmentation().identity(size)).collect())
    }

    /// `(name, value)` of what was done, for people.
    pub fn describe(&self, params: &ViewParams) -> Vec<(String, String)> {
        self.0.iter().zip(&params.0).map(|(a, params)| a.as_augmentation().describe(params)).collect()
    }
}

/// How the picture without augmentation is brought to the views' size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanView {
    /// The shorter side is resized to this many pixels.
    pub resize: usize,
    /// Then the middle of this side is taken.
    pub crop: usize,
    /// Interpolation.
    pub filter: Filter,
}

/// The clean view of a picture; one that is square and of the crop's size already stays as it is.
pub fn clean_view(image: &Image, clean: &CleanView) -> Image {
    if image.size() == Size::square(clean.crop) {
        return image.clone();
    }
    let resized = resize(image, shorter_side(image.size(), clean.resize), clean.filter);
    centre_crop(&resized, Size::square(clean.crop))
}

/// How the views of a picture are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// One list of augmentations a view; they may differ.
    pub views: Vec<ViewPolicy>,
    /// The picture without augmentation.
    pub clean: CleanView,
}

impl Policy {
    /// Every built-in policy: its name, and one line.
    pub const LIST: [(&'static str, &'static str); 1] = [(
        "simclr-cifar10",
        "random resized crop, flip, colour jitter of strength 0.5, grayscale (SimCLR on CIFAR-10)",
    )];

    /// The built-in policy `name` with views of `size` pixels.
    pub fn built_in(name: &str, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::Config("views of 0 pixels cannot be made; give a size above 0".into()));
        }
        match name {
            "simclr-cifar10" => Ok(Self::simclr_cifar10(size)),
            _ => {
                let names: Vec<&str> = Self::LIST.iter().map(|(name, _)| *name).collect();
                Err(Error::Config(format!("there is no augmentation policy {name:?}; there is {}", names.join(", "))))
            }
        }
    }

    /// Method, section 4.
    fn simclr_cifar10(size: usize) -> Self {
        let crop =
            RandomResizedCrop { size, scale: (0.2, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bicubic };
        let jitter = ColourJitter { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
        let view = ViewPolicy(vec![
            AugmentationConfig::RandomResizedCrop(crop),
            AugmentationConfig::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
            AugmentationConfig::ColourJitter(jitter),
            AugmentationConfig::Grayscale(Grayscale { probability: 0.2 }),
        ]);
        let clean = CleanView { resize: size, crop: size, filter: Filter::Bilinear };
        Self { name: "simclr-cifar10".into(), views: vec![view.clone(), view], clean }
    }

    /// Side of the views, in pixels.
    pub fn size(&self) -> usize {
        self.clean.crop
    }
}
