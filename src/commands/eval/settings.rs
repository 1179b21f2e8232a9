//! Settings of evaluations other than the defaults, which make them others than those of the published protocols.

use std::path::Path;

use clap::ValueEnum;
use equimod_data::source::ReadOptions;
use equimod_eval::Crop;

use crate::artifact::{OTHER_TEST, OTHER_VALIDATION, dashed};
use crate::cli::{CropKind, ImageArgs, InputArgs, ReadingArgs};
use crate::inputs::evaluated_data;

/// Settings of the images and the seed, in words for the name of a folder, as far as they are not those of the training of
/// the model; `crop` is the default of the protocol.
pub fn of_images(model: &Path, input: &InputArgs, crop: CropKind, reading: &ReadingArgs, seed: u64) -> Vec<String> {
    let own = evaluated_data::reading(model, ReadOptions::default()).unwrap_or_default();
    let background = reading.background.filter(|background| *background != own.background);
    let apply_orientation = reading.apply_orientation && !own.apply_orientation;
    let settings = [
        input.size.map(|size| format!("size-{size}")),
        input.crop.filter(|other| *other != crop).map(|other| Crop::from(other).name().to_owned()),
        background.map(|color| format!("on-{color}").replace('#', "")),
        apply_orientation.then(|| "upright".into()),
        (seed != 0).then(|| format!("seed-{seed}")),
    ];
    settings.into_iter().flatten().collect()
}

/// The options with which another evaluation sees the same images in the same way; tasks are those of classifiers.
pub fn repeated(images: &ImageArgs, input: &InputArgs, seed: u64, is_of_classifier: bool) -> Vec<String> {
    let options = [
        ("--test", images.test.clone()),
        ("--validation", images.validation.clone()),
        ("--background", images.reading.background.map(|color| color.to_string())),
        ("--size", input.size.map(|size| size.to_string())),
        ("--crop", input.crop.and_then(|crop| Some(crop.to_possible_value()?.get_name().to_owned()))),
        ("--seed", (seed != 0).then(|| seed.to_string())),
    ];
    let options = options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten();
    let upright = images.reading.apply_orientation.then(|| "--apply-orientation".into());
    let tasks = images.task.iter().filter(|_| is_of_classifier).flat_map(|task| ["--task".into(), task.clone()]);
    options.chain(upright).chain(tasks).collect()
}

/// Test and validation images of other sources than the data set.
pub fn of_sources(test: Option<&str>, validation: Option<&str>) -> impl Iterator<Item = String> {
    let named = |kind: &str, source: Option<&str>| Some(format!("{kind}{}", dashed(source?)));
    [named(OTHER_TEST, test), named(OTHER_VALIDATION, validation)].into_iter().flatten()
}
