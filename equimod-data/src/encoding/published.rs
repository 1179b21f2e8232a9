//! The constants in the authors' code. Those for BYOL do not match BYOL's augmentations.

/// Means and standard deviations of the first values of [`NAMES`].
#[derive(Clone, Debug)]
pub(super) struct Constants {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// Constants for SimCLR on CIFAR-10: 15 values.
pub(super) fn simclr_cifar10() -> Constants {
    Constants { mean: CIFAR10_MEAN.to_vec(), std: CIFAR10_STD.to_vec() }
}

/// Constants for SimCLR on ImageNet: 17 values.
pub(super) fn simclr_imagenet() -> Constants {
    Constants { mean: IMAGENET_MEAN.to_vec(), std: IMAGENET_STD.to_vec() }
}

/// Constants for BYOL: the first 15 values of SimCLR on the same data, then three of its own.
pub(super) fn byol(simclr: Constants) -> Constants {
    let join = |first: &[f32], last: &[f32]| [&first[..15], last].concat();
    Constants { mean: join(&simclr.mean, &BYOL_MEAN), std: join(&simclr.std, &BYOL_STD) }
}

/// Names in the published vector, which has 15, 17 or 18 values.
pub(super) const NAMES: [&str; 18] = [
    "crop_top",
    "crop_left",
    "crop_height",
    "crop_width",
    "horizontal_flip",
    "jitter_applied",
    "jitter_order_0",
    "jitter_order_1",
    "jitter_order_2",
    "jitter_order_3",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "grayscale",
    "blur_applied",
    "blur_sigma",
    "solarize",
];

const CIFAR10_MEAN: [f32; 15] = [
    4.3122, 4.3216, 23.369, 23.374, 0.49998, 0.80087, 1.2025, 1.4007, 1.5964, 1.8004, 0.99993, 1.0002, 0.99986,
    2.2321e-07, 0.19965,
];
const CIFAR10_STD: [f32; 15] = [
    3.9740, 3.9851, 4.9544, 4.9539, 0.5, 0.3993, 1.1651, 1.0210, 1.0200, 1.1669, 0.2066, 0.2068, 0.2066, 0.0517, 0.3997,
];

const IMAGENET_MEAN: [f32; 17] = [
    68.162, 99.199, 269.33, 274.57, 0.49905, 0.80054, 1.1998, 1.3994, 1.6014, 1.7995, 1.0001, 1.0, 1.0005, 1.5640e-04,
    0.20018, 0.50030, 0.52507,
];
const IMAGENET_STD: [f32; 17] = [
    77.370, 98.681, 136.86, 143.49, 0.5, 0.39959, 1.1661, 1.0201, 1.0201, 1.1657, 0.41347, 0.41323, 0.41349, 0.10333,
    0.40013, 0.5, 0.65251,
];

const BYOL_MEAN: [f32; 3] = [0.27256, 0.52507, 0.050149];
const BYOL_STD: [f32; 3] = [0.30381, 0.65251, 0.064719];
