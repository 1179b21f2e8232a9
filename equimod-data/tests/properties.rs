//! Properties of all augmentations, and the fast resize against its definition, over random images and settings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use equimod_data::augment::{
    CenterCrop, ColorJitter, Equalize, GaussianBlur, Grayscale, HorizontalFlip, Posterize, QuarterTurns, RandomErasing,
    RandomResizedCrop, Resize, Rotation, Solarize, VerticalFlip,
};
use equimod_data::resample::{Filter, resize, resize_and_center_crop, resize_part};
use equimod_data::{
    AugmentationConfig, Encoding, Image, LayoutConfig, ParamLayout, Params, Policy, Rectangle, Size, ViewPolicy, color,
    view_rng,
};
use proptest::prelude::*;

const ENCODINGS: [Encoding; 3] = [Encoding::Published, Encoding::SizeNormalized, Encoding::Pairwise];

fn test_image(size: Size, salt: u64) -> Image {
    use rand::RngCore;
    let mut pixels = vec![0; size.area() * 3];
    view_rng(salt, 0, 0, 0).fill_bytes(&mut pixels);
    Image::new(size, pixels).unwrap()
}

/// One augmentation of each kind, with strength `s` in [0, 1].
fn every(side: usize, s: f64) -> Vec<AugmentationConfig> {
    use AugmentationConfig as A;
    let (probability, scale) = (0.2 + 0.6 * s, (0.05 + 0.3 * s, 0.5 + 0.5 * s));
    let all = vec![
        A::RandomResizedCrop(RandomResizedCrop { size: side, scale, ratio: (0.6, 1.7), filter: Filter::Bicubic }),
        A::Resize(Resize { size: side, filter: Filter::Bilinear }),
        A::CenterCrop(CenterCrop { size: side }),
        A::HorizontalFlip(HorizontalFlip { probability }),
        A::VerticalFlip(VerticalFlip { probability }),
        A::ColorJitter(ColorJitter { probability, brightness: s, contrast: s, saturation: s, hue: s / 2.0 }),
        A::Grayscale(Grayscale { probability }),
        A::GaussianBlur(GaussianBlur { probability, kernel: 5, sigma: (0.1, 0.2 + 3.0 * s) }),
        A::Solarize(Solarize { probability, threshold: (255.0 * s) as u8 }),
        A::Posterize(Posterize { probability, bits: (8.0 * s) as u8 }),
        A::Equalize(Equalize { probability }),
        A::QuarterTurns(QuarterTurns {}),
        A::Rotation(Rotation { probability, degrees: (-170.0 * s, 10.0 + 170.0 * s) }),
        A::RandomErasing(RandomErasing { probability, scale: (0.02, 0.33), ratio: (0.3, 3.3), value: [9, 8, 7] }),
    ];
    assert_eq!(all.len(), AugmentationConfig::LIST.len(), "a new augmentation belongs into this list");
    all
}

fn sizes() -> impl Strategy<Value = Size> {
    (1usize..40, 1usize..40).prop_map(|(height, width)| Size { height, width })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn parameters_replay_encode_and_decode(size in sizes(), side in 1usize..30, s in 0.0..=1.0f64, seed: u64) {
        let image = test_image(size, seed);
        for config in every(side, s) {
            let (name, augmentation) = (config.name(), config.as_augmentation());
            prop_assert!(augmentation.problems().is_empty(), "{:?}", augmentation.problems());
            let params = augmentation.sample(size, &mut view_rng(seed, 0, 0, 1));
            // Replayed parameters, also after serialization, give the same pixels.
            let out = augmentation.apply(image.clone(), &params);
            let written: Params = serde_json::from_str(&serde_json::to_string(&params).unwrap()).unwrap();
            prop_assert_eq!(&written, &params);
            prop_assert_eq!(&augmentation.apply_to(&image, &written), &out);
            prop_assert_eq!(out.size(), augmentation.output_size(size, &params), "{}", name);
            for encoding in ENCODINGS {
                let mut values = Vec::new();
                augmentation.encode(&params, size, encoding, &mut values);
                prop_assert_eq!(values.len(), augmentation.fields(encoding).len());
                prop_assert_eq!(values.len(), augmentation.moments(encoding).len());
                prop_assert!(values.iter().all(|value| value.is_finite()), "{} {:?}", name, values);
                let bounds = augmentation.bounds(encoding);
                prop_assert_eq!(values.len(), bounds.len());
                for ((field, &value), (low, high)) in augmentation.fields(encoding).iter().zip(&values).zip(bounds) {
                    let inside = low - 1e-6 <= f64::from(value) && f64::from(value) <= high + 1e-6;
                    prop_assert!(inside, "{} {} {}: {} to {}", name, field.name, value, low, high);
                    let fine = match field.unit {
                        "0 or 1" => value == 0.0 || value == 1.0,
                        "share of the height" | "share of the width" => (0.0..=1.0).contains(&value),
                        "pixels" => (0.0..=1000.0).contains(&value),
                        _ => value.abs() <= 360.0,
                    };
                    prop_assert!(fine, "{} {} {}", name, field.name, value);
                }
                // Parameters of an augmentation that was not applied are not stored: decoded parameters encode to the
                // same values.
                let read = augmentation.decode(&values, size, encoding);
                let mut again = Vec::new();
                augmentation.encode(&read, size, encoding, &mut again);
                prop_assert_eq!(&again, &values, "{} {}", name, encoding);
                prop_assert_eq!(&augmentation.apply_to(&image, &read), &out, "{} {}", name, encoding);
            }
        }
    }

    #[test]
    fn identity_changes_no_pixel(side in 1usize..30, s in 0.0..=1.0f64, seed: u64) {
        let size = Size::square(side);
        let image = test_image(size, seed);
        for config in every(side, s) {
            let augmentation = config.as_augmentation();
            let identity = augmentation.identity(size);
            prop_assert_eq!(&augmentation.apply_to(&image, &identity), &image, "{}", config.name());
            prop_assert_eq!(augmentation.output_size(size, &identity), size);
        }
        let view = ViewPolicy(every(side, s));
        prop_assert_eq!(&view.apply(&image, &view.identity(size)), &image);
    }

    #[test]
    fn any_numbers_are_read_as_parameters(
        size in sizes(),
        values in prop::collection::vec(prop::num::f32::ANY, 0..12),
    ) {
        let image = test_image(size, 1);
        for config in every(8, 0.5) {
            let augmentation = config.as_augmentation();
            for encoding in ENCODINGS {
                let params = augmentation.decode(&values, size, encoding);
                let out = augmentation.apply_to(&image, &params);
                prop_assert_eq!(out.size(), augmentation.output_size(size, &params), "{}", config.name());
            }
        }
    }

    /// Parameters of another augmentation change nothing except for the configured size.
    #[test]
    fn parameters_of_another_augmentation_are_no_accident(size in sizes(), seed: u64) {
        let image = test_image(size, seed);
        let all = every(8, 0.5);
        for (config, other) in all.iter().flat_map(|one| all.iter().map(move |other| (one, other))) {
            let params = other.as_augmentation().sample(size, &mut view_rng(seed, 0, 0, 0));
            let _ = config.as_augmentation().apply_to(&image, &params);
            let _ = config.as_augmentation().describe(&params);
        }
    }

    #[test]
    fn resizing_is_what_its_definition_says(
        size in sizes(), target in sizes(), bicubic: bool, seed: u64, corner in (0.0..1.0f64, 0.0..1.0f64),
    ) {
        let filter = if bicubic { Filter::Bicubic } else { Filter::Bilinear };
        let image = test_image(size, seed);
        prop_assert_eq!(resize(&image, target, filter), defined(&image, target, filter));
        let (top, left) = ((corner.0 * size.height as f64) as usize, (corner.1 * size.width as f64) as usize);
        let part = Rectangle { top, left, height: size.height - top, width: size.width - left };
        let cut = equimod_data::resample::crop(&image, top, left, part.size());
        prop_assert_eq!(resize_part(&image, part, target, filter), defined(&cut, target, filter));
    }

    /// Only the part of the image that the crop needs is resized.
    #[test]
    fn a_middle_is_that_of_the_whole(size in sizes(), side in 1usize..50, crop in 1usize..50, seed: u64) {
        let image = test_image(size, seed);
        let whole = resize(&image, equimod_data::resample::shorter_side(size, side), Filter::Bilinear);
        let middle = equimod_data::resample::center_crop(&whole, Size::square(crop));
        prop_assert_eq!(resize_and_center_crop(&image, side, crop, Filter::Bilinear), middle);
    }

    /// Images of any length, to cover vectors and remainders.
    #[test]
    fn colors_do_not_depend_on_their_place(size in sizes(), seed: u64, factor in 0.0..2.0f32, shift in -0.5..0.5f32) {
        let image = test_image(size, seed);
        let single = |change: &dyn Fn(&mut Image), place: usize| {
            let mut pixel = Image::new(Size::square(1), image.pixels()[place * 3..][..3].to_vec()).unwrap();
            change(&mut pixel);
            pixel.into_pixels()
        };
        let changes: [&dyn Fn(&mut Image); 5] = [
            &|image| color::saturation(image, factor),
            &|image| color::hue(image, shift),
            &|image| color::brightness(image, factor),
            &|image| color::solarize(image, 77),
            &color::grayscale,
        ];
        for change in changes {
            let mut changed = image.clone();
            change(&mut changed);
            let pixels: Vec<u8> = (0..size.area()).flat_map(|place| single(change, place)).collect();
            prop_assert_eq!(changed.pixels(), &pixels[..]);
        }
    }
}

/// Pillow's resampling according to its documentation and this crate's: weights in 22-bit fixed point, horizontal
/// first.
fn defined(image: &Image, target: Size, filter: Filter) -> Image {
    let Size { height, width } = image.size();
    let at = |pixels: &[u8], width: usize, y: usize, x: usize, c: usize| i64::from(pixels[(y * width + x) * 3 + c]);
    let mut lines = image.pixels().to_vec();
    if width != target.width {
        let weights: Vec<_> = (0..target.width).map(|x| weights(width, target.width, x, filter)).collect();
        let value = |y: usize, x: usize, c: usize| {
            let (low, weights) = &weights[x];
            fixed(weights.iter().enumerate().map(|(k, w)| w * at(image.pixels(), width, y, low + k, c)).sum())
        };
        lines = places(height, target.width).map(|(y, x, c)| value(y, x, c)).collect();
    }
    if height == target.height {
        return Image::new(target, lines).unwrap();
    }
    let weights: Vec<_> = (0..target.height).map(|y| weights(height, target.height, y, filter)).collect();
    let value = |y: usize, x: usize, c: usize| {
        let (low, weights) = &weights[y];
        fixed(weights.iter().enumerate().map(|(k, w)| w * at(&lines, target.width, low + k, x, c)).sum())
    };
    Image::new(target, places(target.height, target.width).map(|(y, x, c)| value(y, x, c)).collect()).unwrap()
}

fn places(height: usize, width: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..height).flat_map(move |y| (0..width).flat_map(move |x| (0..3).map(move |c| (y, x, c))))
}

fn fixed(sum: i64) -> u8 {
    ((sum + (1 << 21)) >> 22).clamp(0, 255) as u8
}

fn weights(inputs: usize, outputs: usize, place: usize, filter: Filter) -> (usize, Vec<i64>) {
    let scale = inputs as f64 / outputs as f64;
    let stretch = scale.max(1.0);
    let support = stretch * if filter == Filter::Bicubic { 2.0 } else { 1.0 };
    let center = (place as f64 + 0.5) * scale;
    let low = (center - support + 0.5).max(0.0) as usize;
    let high = ((center + support + 0.5) as usize).min(inputs);
    let weight = |x: f64| match filter {
        Filter::Bilinear if x < 1.0 => 1.0 - x,
        Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        _ => 0.0,
    };
    let exact: Vec<f64> = (low..high).map(|x| weight((x as f64 - center + 0.5).abs() / stretch)).collect();
    let sum: f64 = exact.iter().sum();
    let fixed = |w: &f64| (w / sum * f64::from(1 << 22) + if *w < 0.0 { -0.5 } else { 0.5 }) as i64;
    (low, exact.iter().map(fixed).collect())
}

/// The number of attempts of a crop depends on the image, and must not affect other augmentations.
#[test]
fn other_augmentations_do_not_depend_on_the_images_size() {
    let view = &Policy::built_in("byol-imagenet", 32).unwrap().views[1];
    let draw = |height, width| view.sample(Size { height, width }, &mut view_rng(1, 2, 3, 4)).0[1..].to_vec();
    let reference = draw(40, 60);
    for (height, width) in [(500, 30), (30, 500), (1, 1), (7, 7)] {
        assert_eq!(draw(height, width), reference);
    }
}

/// Every view occurs with every size: the mean over both is the mean of all four combinations.
#[test]
fn statistics_do_not_tie_views_to_sizes() {
    let crop = |scale| {
        let crop = RandomResizedCrop { size: 8, scale: (scale, scale), ratio: (1.0, 1.0), filter: Filter::Bilinear };
        ViewPolicy(vec![AugmentationConfig::RandomResizedCrop(crop)])
    };
    let clean = Policy::built_in("simclr-cifar10", 8).unwrap().clean;
    let policy = Policy { name: "two".into(), views: vec![crop(1.0), crop(0.25)], clean };
    let sizes = [Size::square(32), Size::square(512)];
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &sizes).unwrap();
    let height = layout.names.iter().position(|name| name == "crop_height").unwrap();
    assert_eq!(layout.mean[height], (32.0 + 16.0 + 512.0 + 256.0) / 4.0);
}

#[test]
fn a_pairwise_difference_to_a_view_without_an_augmentation_is_that_to_its_identity() {
    let policy = Policy::built_in("simclr-cifar10", 32).unwrap();
    let views = vec![ViewPolicy(policy.views[0].0[1..2].to_vec()), policy.views[1].clone()];
    let policy = Policy { views, ..policy };
    let config = LayoutConfig { encoding: Encoding::Pairwise, ..LayoutConfig::default() };
    let layout = ParamLayout::new(&policy, &config, &[Size::square(32)]).unwrap();
    let mean = |name: &str| layout.mean[layout.names.iter().position(|known| known == name).unwrap()];
    assert_eq!((mean("brightness"), mean("hue")), (0.0, 0.0));
    assert!(mean("crop_center_x").abs() < 0.01 && mean("crop_height_share") < 0.0);
    // Two views that are the identity except for one flip differ in the flip only.
    let identity = policy.views[1].identity(Size::square(32));
    let mut out = vec![Vec::new()];
    let flipped = equimod_data::ViewParams(vec![Params::Switch(true)]);
    layout.encode_views(&policy, &[flipped, identity], Size::square(32), &mut out);
    let others = layout.names.iter().zip(&out[0]).filter(|(name, _)| *name != "horizontal_flip");
    assert!(others.clone().all(|(_, &value)| value == 0.0), "{:?}", others.collect::<Vec<_>>());
}

/// Differences in the two directions are opposite, except for centers if only one view is mirrored, and lie within
/// their bounds.
#[test]
fn both_ways_between_views_are_opposite() {
    let policy = Policy::built_in("byol-cifar10", 32).unwrap();
    let config = LayoutConfig { encoding: Encoding::Pairwise, ..LayoutConfig::default() };
    let size = Size { height: 40, width: 60 };
    let layout = ParamLayout::new(&policy, &config, &[size]).unwrap();
    let values = layout.values(&policy);
    assert_eq!((values[0].augmentation, values[1].name), ("random-resized-crop", "crop_center_x"));
    let (mut mirrored, mut largest) = (0, vec![0f32; layout.width()]);
    for sample in 0..400 {
        let view = |number: usize| policy.views[number].sample(size, &mut view_rng(1, 0, sample, number as u64));
        let drawn = [view(0), view(1)];
        let way = |ways| {
            let mut out = Vec::new();
            layout.encode_pair(&policy, &drawn, size, ways, &mut out);
            out
        };
        let (there, back) = (way((0, 1)), way((1, 0)));
        let flipped = drawn.clone().map(|view| view.0[1] == Params::Switch(true));
        for (place, value) in values.iter().enumerate() {
            let sign = if value.name == "crop_center_x" && flipped[0] != flipped[1] { 1.0 } else { -1.0 };
            assert_eq!(there[place], sign * back[place], "{}", value.name);
            largest[place] = largest[place].max(there[place].abs());
        }
        mirrored += usize::from(flipped[0] != flipped[1]);
    }
    assert!(mirrored > 100);
    for (value, largest) in values.iter().zip(largest) {
        let reach = value.largest - value.least;
        // A crop's center stays away from the edges, so that its bounds are the loosest.
        assert!(largest <= reach + 1e-6 && largest > 0.25 * reach, "{}: {largest} of {reach}", value.name);
    }
}

#[test]
fn a_jitter_without_hue_turns_no_hue() {
    let image = test_image(Size::square(16), 4);
    let jitter = ColorJitter { probability: 1.0, brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 };
    let jitter = AugmentationConfig::ColorJitter(jitter);
    let params = jitter.as_augmentation().sample(image.size(), &mut view_rng(0, 0, 0, 0));
    assert_eq!(jitter.as_augmentation().apply_to(&image, &params), image);
}

/// Means of 100 000 samples are within five standard errors of the analytic ones, standard deviations within 2 %. Their
/// relative standard error is below 0.5 % for every value here except rare flags, whose standard deviation follows from
/// the mean.
#[test]
fn measured_statistics_are_the_analytic_ones() {
    const DRAWS: usize = 100_000;
    let size = Size { height: 37, width: 53 };
    let mut policies: Vec<Policy> = Policy::LIST.iter().map(|(name, _)| Policy::built_in(name, 32).unwrap()).collect();
    let all = |s: f64| ViewPolicy(every(32, s));
    policies.push(Policy { name: "every augmentation".into(), views: vec![all(0.3), all(0.9)], ..policies[0].clone() });
    let mut compared = 0;
    for policy in policies {
        for encoding in ENCODINGS {
            let config = LayoutConfig { encoding, ..LayoutConfig::default() };
            let layout = ParamLayout::new(&policy, &config, &[size]).unwrap();
            let measured = layout.measure(&policy, &[size], DRAWS).unwrap();
            for (k, analytic) in layout.analytic(&policy).into_iter().enumerate() {
                let Some((mean, std)) = analytic else { continue };
                let what = format!("{} {encoding} {}", policy.name, layout.names[k]);
                let off = (measured.mean[k] - mean).abs();
                assert!(off <= 5.0 * std / (DRAWS as f64).sqrt() + 1e-6, "{what}: {} {mean}", measured.mean[k]);
                assert!((measured.std[k] - std).abs() <= 0.02 * std + 1e-6, "{what}: {} {std}", measured.std[k]);
                assert!((f64::from(layout.mean[k]) - mean).abs() < 1e-6 * mean.abs().max(1.0), "{what}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}
