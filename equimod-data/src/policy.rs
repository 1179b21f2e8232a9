//! Policies: an ordered list of augmentations for each view, and how the clean picture is made. Policies are data.

use rand::SeedableRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augment::{
    Augmentation, AugmentationConfig, Axis, ColorJitter, GaussianBlur, Grayscale, HorizontalFlip, Params,
    RandomResizedCrop, Solarize,
};
use crate::image::{Image, Size};
use crate::random::Rng;
use crate::resample::{Filter, resize_and_center_crop};
use crate::{Error, Result};

/// What one view of one picture sampled: the parameters of each augmentation, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewParams(pub Vec<Params>);

/// The augmentations of one view, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ViewPolicy(pub Vec<AugmentationConfig>);

impl ViewPolicy {
    /// Draws the parameters of every augmentation for a picture of `size`.
    ///
    /// Each augmentation has a generator of its own: how much one draws (a crop tries again where it does not fit) changes
    /// nothing in the others.
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

    /// Each augmentation with its parameters and the size of the picture that it gets.
    pub(crate) fn each(&self, params: &ViewParams, size: Size, mut f: impl FnMut(&dyn Augmentation, &Params, Size)) {
        let mut size = size;
        for (augmentation, params) in self.0.iter().map(AugmentationConfig::as_augmentation).zip(&params.0) {
            f(augmentation, params, size);
            size = augmentation.output_size(size, params);
        }
    }

    /// The parameters that change nothing of a picture that has the output's size already.
    pub fn identity(&self, size: Size) -> ViewParams {
        ViewParams(self.0.iter().map(|a| a.as_augmentation().identity(size)).collect())
    }

    /// The size of the view of a square picture with sides of `side` pixels.
    pub(crate) fn output_size(&self, side: usize) -> Size {
        let square = Size::square(side);
        let step =
            |size, a: &AugmentationConfig| a.as_augmentation().output_size(size, &a.as_augmentation().identity(size));
        self.0.iter().fold(square, step)
    }

    /// The same with its random crop of another size and share of the area.
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

    /// `(name, value)` of what was done, for people.
    pub fn describe(&self, params: &ViewParams) -> Vec<(String, String)> {
        self.0.iter().zip(&params.0).map(|(a, params)| a.as_augmentation().describe(params)).collect()
    }
}

/// How the picture without augmentation is brought to the views' size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    if clean.resize == clean.crop && image.size() == Size::square(clean.crop) {
        return image.clone();
    }
    resize_and_center_crop(image, clean.resize, clean.crop, clean.filter)
}

/// How the views of a picture are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// One list of augmentations a view; they may differ.
    pub views: Vec<ViewPolicy>,
    /// The picture without augmentation.
    pub clean: CleanView,
}

/// Most views of a picture.
const MOST_VIEWS: usize = 64;

impl Policy {
    /// Every built-in policy: its name, and one line.
    pub const LIST: [(&'static str, &'static str); 5] = [
        ("simclr-cifar10", "random resized crop, flip, color jitter of strength 0.5, grayscale (SimCLR on CIFAR-10)"),
        ("simclr-imagenet", "the same with color jitter of strength 1, and blur (SimCLR on ImageNet)"),
        (
            "byol-cifar10",
            "two different views: blur always or seldom, the second solarized at times (BYOL on CIFAR-10)",
        ),
        ("byol-imagenet", "the same with small crops and a wide blur (BYOL on ImageNet)"),
        ("multi-crop-imagenet", "two large and six small crops (SwAV on ImageNet, arXiv 2006.09882)"),
    ];

    /// The built-in policy `name` with views of `size` pixels.
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

    /// Method, section 4.
    fn simclr_cifar10(size: usize) -> Self {
        let jitter = ColorJitter { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
        let view = ViewPolicy(common(size, 0.2, jitter));
        Self { name: "simclr-cifar10".into(), views: vec![view.clone(), view], clean: Self::clean_small(size) }
    }

    /// Method, section 4.
    fn simclr_imagenet(size: usize) -> Self {
        let mut view = common(size, 0.08, strong_jitter());
        view.push(blur(size, 0.5));
        let views = vec![ViewPolicy(view.clone()), ViewPolicy(view)];
        Self { name: "simclr-imagenet".into(), views, clean: Self::clean_large(size) }
    }

    /// Method, section 4.
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

    /// SwAV's two crops of 14 to 100 % at full size and six of 5 to 14 % at 96 of 224 pixels, with SimCLR's colors.
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

    /// Pictures that already have the views' size stay as they are.
    fn clean_small(size: usize) -> CleanView {
        CleanView { resize: size, crop: size, filter: Filter::Bilinear }
    }

    /// 256 of 224 pixels, then the middle.
    fn clean_large(size: usize) -> CleanView {
        CleanView { resize: size * 256 / 224, crop: size, filter: Filter::Bilinear }
    }

    /// Side of the clean view, in pixels.
    pub fn size(&self) -> usize {
        self.clean.crop
    }

    /// The size of each view.
    pub fn view_sizes(&self) -> Vec<Size> {
        self.views.iter().map(|view| view.output_size(self.size())).collect()
    }

    /// Everything that is wrong with the settings.
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

    /// An error that names everything that is wrong with the settings.
    pub fn check(&self) -> Result<()> {
        let problems = self.problems();
        match problems.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::Config(format!("augmentation policy {} cannot be: {}", self.name, problems.join("; "))))
            }
        }
    }
}

/// Longest side of a clean view, in pixels.
const MOST_PIXELS: usize = 4096;

/// SimCLR's colors at full strength.
fn strong_jitter() -> ColorJitter {
    ColorJitter { probability: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }
}

/// What all published policies begin with.
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
