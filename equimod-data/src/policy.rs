//! Policies as data: an ordered list of augmentations for each view, and the preprocessing of the original image.

use rand::SeedableRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augment::{
    Augmentation, AugmentationConfig, Axis, ColorJitter, GaussianBlur, Grayscale, HorizontalFlip, Params,
    RandomResizedCrop, Solarize,
};
use crate::image::{Image, Size};
use crate::plan::ViewPlan;
use crate::random::Rng;
use crate::resample::{Filter, resize_and_center_crop};
use crate::{Error, Result};

/// Sampled parameters of one view of one image: those of each augmentation, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewParams(pub Vec<Params>);

/// Augmentations of one view, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ViewPolicy(pub Vec<AugmentationConfig>);

impl ViewPolicy {
    /// Samples the parameters of every augmentation for an image of `size`.
    ///
    /// Each augmentation has its own random generator. The number of values that one consumes (a crop retries if it
    /// does not fit) does not affect the others.
    pub fn sample(&self, size: Size, rng: &mut Rng) -> ViewParams {
        let mut size = size;
        let draw = |augmentation: &AugmentationConfig| {
            let augmentation = augmentation.as_augmentation();
            let params = augmentation.sample(size, &mut Rng::from_rng(rng));
            size = augmentation.output_size(size, &params);
            params
        };
        ViewParams(self.0.iter().map(draw).collect())
    }

    /// Applies the augmentations in order.
    pub fn apply(&self, image: &Image, params: &ViewParams) -> Image {
        let mut steps = self.0.iter().map(AugmentationConfig::as_augmentation).zip(&params.0);
        let Some((first, params)) = steps.next() else { return image.clone() };
        let first = first.apply_to(image, params);
        steps.fold(first, |image, (augmentation, params)| augmentation.apply(image, params))
    }

    /// Plan of the view of an image of `size`.
    ///
    /// # Errors
    ///
    /// If an augmentation cannot be planned, or a crop is not the first one; the error names it.
    pub fn plan(&self, params: &ViewParams, size: Size) -> Result<ViewPlan> {
        let mut plan = ViewPlan::unchanged(size);
        for (number, (config, params)) in self.0.iter().zip(&params.0).enumerate() {
            let late_crop = number > 0 && matches!(config, AugmentationConfig::RandomResizedCrop(_));
            if late_crop || !config.as_augmentation().plan(params, &mut plan) {
                let name = config.name();
                let text = format!("only the CPU can apply {name} here; set augmentation.on = \"cpu\"");
                return Err(Error::Config(text));
            }
        }
        Ok(plan)
    }

    /// Calls `f` for each augmentation, with its parameters and the size of its input image.
    pub(crate) fn each(&self, params: &ViewParams, size: Size, mut f: impl FnMut(&dyn Augmentation, &Params, Size)) {
        let mut size = size;
        for (augmentation, params) in self.0.iter().map(AugmentationConfig::as_augmentation).zip(&params.0) {
            f(augmentation, params, size);
            size = augmentation.output_size(size, params);
        }
    }

    /// Parameters that leave an image unchanged if it already has the output's size.
    pub fn identity(&self, size: Size) -> ViewParams {
        ViewParams(self.0.iter().map(|a| a.as_augmentation().identity(size)).collect())
    }

    /// Size of the view of a square image with sides of `side` pixels.
    pub(crate) fn output_size(&self, side: usize) -> Size {
        let square = Size::square(side);
        let step =
            |size, a: &AugmentationConfig| a.as_augmentation().output_size(size, &a.as_augmentation().identity(size));
        self.0.iter().fold(square, step)
    }

    /// The same policy with another size and area range of its random crop.
    ///
    /// # Errors
    ///
    /// If the policy has no random crop, or the settings are not valid.
    pub fn with_crop(&self, size: usize, scale: (f64, f64)) -> Result<Self> {
        let mut view = self.clone();
        let crop = view.0.iter_mut().find_map(|augmentation| match augmentation {
            AugmentationConfig::RandomResizedCrop(crop) => Some(crop),
            _ => None,
        });
        let missing = || Error::Config("a small view needs a policy whose view 1 has a random-resized-crop".into());
        let crop = crop.ok_or_else(missing)?;
        (crop.size, crop.scale) = (size, scale);
        match crop.problems().first() {
            Some(problem) => Err(Error::Config(format!("the crop of the small view: {problem}"))),
            None => Ok(view),
        }
    }

    /// Whether the view is mirrored along `axis`.
    pub(crate) fn is_mirrored(&self, params: &ViewParams, axis: Axis) -> bool {
        let mirrors = self.0.iter().zip(&params.0).map(|(config, params)| config.as_augmentation().mirrors(params));
        mirrors.filter(|mirrored| *mirrored == Some(axis)).count() % 2 == 1
    }

    /// Human-readable `(name, value)` of each application.
    pub fn describe(&self, params: &ViewParams) -> Vec<(String, String)> {
        self.0.iter().zip(&params.0).map(|(a, params)| a.as_augmentation().describe(params)).collect()
    }
}

/// Preprocessing of the original (un-augmented) image to the size of the views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CleanView {
    /// Length in pixels to which the shorter side is resized.
    pub resize: usize,
    /// Side of the center crop in pixels.
    pub crop: usize,
    /// Interpolation filter.
    pub filter: Filter,
}

/// Clean view of an image: resized and center-cropped without augmentation. A square image of the crop's size stays
/// unchanged.
pub fn clean_view(image: &Image, clean: &CleanView) -> Image {
    if clean.resize == clean.crop && image.size() == Size::square(clean.crop) {
        return image.clone();
    }
    resize_and_center_crop(image, clean.resize, clean.crop, clean.filter)
}

/// Plan of the [`clean_view`] of an image of `size`.
///
/// # Errors
///
/// If the crop is larger than the resized image, which is padded then.
pub fn clean_plan(size: Size, clean: &CleanView) -> Result<ViewPlan> {
    let plan = ViewPlan::center_crop(size, clean.resize, clean.crop, clean.filter);
    let padded = || {
        let text = "only the CPU can pad the clean view; set augmentation.on = \"cpu\", or clean.resize to clean.crop";
        Error::Config(text.into())
    };
    plan.ok_or_else(padded)
}

/// Augmentation policy for all views of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name of the policy.
    pub name: String,
    /// One list of augmentations per view; the lists may differ.
    pub views: Vec<ViewPolicy>,
    /// Preprocessing of the original (un-augmented) image.
    pub clean: CleanView,
}

/// Upper limit of the number of views.
const MOST_VIEWS: usize = 64;

impl Policy {
    /// Name and one-line description of every built-in policy.
    pub const LIST: [(&'static str, &'static str); 5] = [
        ("simclr-cifar10", "random resized crop, flip, color jitter of strength 0.5, grayscale (SimCLR on CIFAR-10)"),
        ("simclr-imagenet", "as simclr-cifar10, with color jitter of strength 1 and blur (SimCLR on ImageNet)"),
        (
            "byol-cifar10",
            "two different views: blur always or rarely, the second sometimes solarized (BYOL on CIFAR-10)",
        ),
        ("byol-imagenet", "as byol-cifar10, with smaller crops and a wider blur (BYOL on ImageNet)"),
        ("multi-crop-imagenet", "two large and six small crops (SwAV on ImageNet, arXiv 2006.09882)"),
    ];

    /// The built-in policy `name` with views of `size` pixels.
    ///
    /// # Errors
    ///
    /// If there is no policy of this name, or the size is not valid.
    pub fn built_in(name: &str, size: usize) -> Result<Self> {
        let policy = match name {
            "simclr-cifar10" => Self::simclr_cifar10(size),
            "simclr-imagenet" => Self::simclr_imagenet(size),
            "byol-cifar10" => Self::byol(name, size, 0.2, Self::clean_small(size)),
            "byol-imagenet" => Self::byol(name, size, 0.08, Self::clean_large(size)),
            "multi-crop-imagenet" => Self::multi_crop_imagenet(size),
            _ => {
                let names: Vec<&str> = Self::LIST.iter().map(|(name, _)| *name).collect();
                let text = format!("there is no augmentation policy {name:?}; there are {}", names.join(", "));
                return Err(Error::Config(text));
            }
        };
        policy.check()?;
        Ok(policy)
    }

    /// Policy of SimCLR on CIFAR-10 in the authors' code.
    fn simclr_cifar10(size: usize) -> Self {
        let jitter = ColorJitter { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
        let view = ViewPolicy(common(size, 0.2, jitter));
        Self { name: "simclr-cifar10".into(), views: vec![view.clone(), view], clean: Self::clean_small(size) }
    }

    /// Policy of SimCLR on ImageNet in the authors' code.
    fn simclr_imagenet(size: usize) -> Self {
        let mut view = common(size, 0.08, strong_jitter());
        view.push(blur(size, 0.5));
        let views = vec![ViewPolicy(view.clone()), ViewPolicy(view)];
        Self { name: "simclr-imagenet".into(), views, clean: Self::clean_large(size) }
    }

    /// Policy of BYOL in the authors' code.
    fn byol(name: &str, size: usize, least_scale: f64, clean: CleanView) -> Self {
        let view = |blurred: f64, solarized: f64| {
            let jitter = ColorJitter { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 };
            let mut view = common(size, least_scale, jitter);
            view.push(blur(size, blurred));
            view.push(AugmentationConfig::Solarize(Solarize { probability: solarized, threshold: 128 }));
            ViewPolicy(view)
        };
        Self { name: name.into(), views: vec![view(1.0, 0.0), view(0.1, 0.2)], clean }
    }

    /// SwAV's multi-crop: two crops of 14 to 100 % of the area at full size and six of 5 to 14 % at 96/224 of it, with
    /// SimCLR's color augmentations.
    fn multi_crop_imagenet(size: usize) -> Self {
        let view = |size: usize, scale: (f64, f64)| {
            let mut view = common(size, 0.08, strong_jitter());
            if let Some(AugmentationConfig::RandomResizedCrop(crop)) = view.first_mut() {
                crop.scale = scale;
            }
            view.push(blur(size, 0.5));
            ViewPolicy(view)
        };
        let mut views = vec![view(size, (0.14, 1.0)); 2];
        views.extend(vec![view((size * 96 / 224).max(1), (0.05, 0.14)); 6]);
        Self { name: "multi-crop-imagenet".into(), views, clean: Self::clean_large(size) }
    }

    /// Clean view that leaves images of the views' size unchanged.
    fn clean_small(size: usize) -> CleanView {
        CleanView { resize: size, crop: size, filter: Filter::Bilinear }
    }

    /// Clean view with the usual proportions: a resize to 256, then a center crop of 224 pixels.
    fn clean_large(size: usize) -> CleanView {
        CleanView { resize: size * 256 / 224, crop: size, filter: Filter::Bilinear }
    }

    /// Checks that a device can make all views: [`ViewPolicy::plan`] and [`clean_plan`] work.
    ///
    /// # Errors
    ///
    /// If they do not; the error says why.
    pub fn check_plannable(&self) -> Result<()> {
        let size = Size::square(self.size());
        clean_plan(size, &self.clean)?;
        self.views.iter().try_for_each(|view| view.plan(&view.identity(size), size).map(drop))
    }

    /// Side of the clean view, in pixels.
    pub fn size(&self) -> usize {
        self.clean.crop
    }

    /// Size of each view.
    pub fn view_sizes(&self) -> Vec<Size> {
        self.views.iter().map(|view| view.output_size(self.size())).collect()
    }

    /// Problems of the settings, one sentence each; empty if they are valid.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=MOST_VIEWS).contains(&self.views.len()) {
            problems.push(format!("it has {} views; give 1 to {MOST_VIEWS}", self.views.len()));
        }
        for (what, side) in [("resize", self.clean.resize), ("crop", self.clean.crop)] {
            if !(1..=MOST_PIXELS).contains(&side) {
                problems.push(format!("clean.{what} is {side}; give a side from 1 to {MOST_PIXELS} pixels"));
            }
        }
        for (number, view) in self.views.iter().enumerate() {
            for config in &view.0 {
                let wrong = config.as_augmentation().problems().into_iter();
                problems.extend(wrong.map(|problem| format!("view {}, {}: {problem}", number + 1, config.name())));
            }
        }
        problems
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// If settings are not valid; the error lists all problems.
    pub fn check(&self) -> Result<()> {
        let problems = self.problems();
        match problems.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::Config(format!("augmentation policy {} is not valid: {}", self.name, problems.join("; "))))
            }
        }
    }
}

/// Longest side of a clean view, in pixels.
const MOST_PIXELS: usize = 4096;

/// SimCLR's color jitter at full strength.
fn strong_jitter() -> ColorJitter {
    ColorJitter { probability: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }
}

/// Augmentations that all published policies start with.
fn common(size: usize, least_scale: f64, jitter: ColorJitter) -> Vec<AugmentationConfig> {
    let crop =
        RandomResizedCrop { size, scale: (least_scale, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bicubic };
    vec![
        AugmentationConfig::RandomResizedCrop(crop),
        AugmentationConfig::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
        AugmentationConfig::ColorJitter(jitter),
        AugmentationConfig::Grayscale(Grayscale { probability: 0.2 }),
    ]
}

fn blur(size: usize, probability: f64) -> AugmentationConfig {
    let kernel = GaussianBlur::published_kernel(size);
    AugmentationConfig::GaussianBlur(GaussianBlur { probability, kernel, sigma: (0.1, 2.0) })
}
