//! Settings of evaluations other than the defaults, which make them others than those of the published protocols.

use equimod_eval::Crop;

use crate::artifact::{OTHER_TEST, OTHER_VALIDATION, dashed};
use crate::cli::{CropKind, InputArgs, ReadingArgs};

/// Settings of the images and the seed, in words for the name of a folder; `crop` is the default of the protocol.
pub fn of_images(input: &InputArgs, crop: CropKind, reading: &ReadingArgs, seed: u64) -> Vec<String> {
    let settings = [
        input.size.map(|size| format!("size-{size}")),
        input.crop.filter(|other| *other != crop).map(|other| Crop::from(other).name().to_owned()),
        reading.background.map(|color| format!("on-{color}").replace('#', "")),
        reading.apply_orientation.then(|| "upright".into()),
        (seed != 0).then(|| format!("seed-{seed}")),
    ];
    settings.into_iter().flatten().collect()
}

/// Test and validation images of other sources than the data set.
pub fn of_sources(test: Option<&str>, validation: Option<&str>) -> impl Iterator<Item = String> {
    let named = |kind: &str, source: Option<&str>| Some(format!("{kind}{}", dashed(source?)));
    [named(OTHER_TEST, test), named(OTHER_VALIDATION, validation)].into_iter().flatten()
}
