//! Transforms, parameter vectors and pipelines against the reference, bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use equimod_data::blur::gaussian_blur;
use equimod_data::resample::{Filter, center_crop, crop, resize, shorter_side};
use equimod_data::{
    CleanView, Encoding, Image, LayoutConfig, ParamLayout, Params, Policy, Rectangle, Size, Statistics, clean_view,
};
use equimod_data::{blur, color, view_rng};
use safetensors::{Dtype, SafeTensors};

fn folder() -> (PathBuf, bool) {
    match std::env::var_os("EQUIMOD_GOLDEN_DIR") {
        Some(folder) => (folder.into(), true),
        None => (PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden"), false),
    }
}

fn read(name: &str) -> Option<Vec<u8>> {
    let (folder, other) = folder();
    let path = folder.join(name);
    if !path.is_file() {
        assert!(other, "{} is missing from the project", path.display());
        eprintln!("skipped: {} is not in this set", path.display());
        return None;
    }
    Some(std::fs::read(path).unwrap())
}

/// Tensors with their shapes.
struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    metadata: HashMap<String, String>,
}

impl Golden {
    fn open(name: &str) -> Option<Self> {
        let bytes = read(name)?;
        let metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap_or_default();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let number = |dtype: Dtype, b: &[u8]| match dtype {
            Dtype::U8 => f64::from(b[0]),
            Dtype::F32 => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            Dtype::F64 => f64::from_le_bytes(b.try_into().unwrap()),
            Dtype::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            other => panic!("{other:?}"),
        };
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let size = view.data().len() / view.shape().iter().product::<usize>().max(1);
            let values = view.data().chunks_exact(size.max(1)).map(|b| number(view.dtype(), b)).collect();
            (name, (view.shape().to_vec(), values))
        });
        Some(Self { tensors: tensors.collect(), metadata })
    }

    fn get(&self, name: &str) -> (&[usize], &[f64]) {
        let (shape, values) = self.tensors.get(name).unwrap_or_else(|| panic!("no {name}"));
        (shape, values)
    }

    /// An image, or the k-th of a stack.
    fn image(&self, name: &str, k: usize) -> Image {
        let (shape, values) = self.get(name);
        let &[.., height, width, 3] = shape else { panic!("{name}: {shape:?}") };
        let length = height * width * 3;
        let pixels = values[k * length..][..length].iter().map(|&v| v as u8).collect();
        Image::new(Size { height, width }, pixels).unwrap()
    }

    fn count(&self, name: &str) -> usize {
        self.get(name).0[0]
    }
}

/// A source image, from the file of images or from the golden file itself.
fn source(images: &Golden, file: &Golden, name: &str) -> Image {
    if images.tensors.contains_key(name) { images.image(name, 0) } else { file.image(name, 0) }
}

fn assert_same(got: &Image, want: &Image, what: &str) {
    assert_eq!(got.size(), want.size(), "{what}");
    let off = got.pixels().iter().zip(want.pixels()).filter(|(a, b)| a != b).count();
    assert_eq!(off, 0, "{what}: {off} of {} values differ", got.pixels().len());
}

/// Filter in a name such as `resized_crop32_bicubic` or `resize20x30_bilinear`.
fn filter_in(name: &str) -> Filter {
    if name.contains("bilinear") { Filter::Bilinear } else { Filter::Bicubic }
}

fn number_after(name: &str, word: &str) -> usize {
    let rest = &name[name.find(word).unwrap() + word.len()..];
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn golden_crops_are_exact() {
    let (Some(images), Some(golden)) = (Golden::open("images.safetensors"), Golden::open("tf_geometric.safetensors"))
    else {
        return;
    };
    let mut cases = 0;
    for name in golden.tensors.keys().filter(|n| n.starts_with("resized_crop") && n.ends_with("/out")) {
        let prefix = name.strip_suffix("/out").unwrap();
        let (kind, source_name) = prefix.split_once('/').unwrap();
        let (side, image) = (number_after(kind, "resized_crop"), source(&images, &golden, source_name));
        let (shape, rectangles) = golden.get(&format!("{prefix}/ijhw"));
        for k in 0..shape[0] {
            let r: Vec<usize> = rectangles[4 * k..][..4].iter().map(|&v| v as usize).collect();
            let part = crop(&image, r[0], r[1], Size { height: r[2], width: r[3] });
            let got = resize(&part, Size::square(side), filter_in(kind));
            assert_same(&got, &golden.image(name, k), &format!("{prefix} {r:?}"));
            cases += 1;
        }
    }
    assert!(cases > 0);
}

#[test]
fn golden_resizes_and_flips_are_exact() {
    let (Some(images), Some(golden)) = (Golden::open("images.safetensors"), Golden::open("tf_geometric.safetensors"))
    else {
        return;
    };
    let mut cases = 0;
    for (name, (shape, _)) in &golden.tensors {
        let (kind, source_name) = name.split_once('/').unwrap_or((name, ""));
        let source_name = source_name.split('/').next().unwrap();
        if !images.tensors.contains_key(source_name) || shape.len() != 3 {
            continue;
        }
        let image = images.image(source_name, 0);
        let got = if kind == "hflip" {
            let view = &Policy::built_in("simclr-cifar10", 32).unwrap().views[0];
            view.0[1].as_augmentation().apply(image, &Params::Switch(true))
        } else if kind.contains("centercrop") {
            let resized = resize(&image, shorter_side(image.size(), number_after(kind, "resize")), filter_in(kind));
            center_crop(&resized, Size::square(number_after(kind, "centercrop")))
        } else if let Some(size) = kind.strip_prefix("resize") {
            let target = size.split('_').next().unwrap();
            let size = match target.split_once('x') {
                Some((h, w)) => Size { height: h.parse().unwrap(), width: w.parse().unwrap() },
                None => shorter_side(image.size(), target.parse().unwrap()),
            };
            resize(&image, size, filter_in(kind))
        } else {
            continue;
        };
        assert_same(&got, &golden.image(name, 0), name);
        cases += 1;
    }
    assert!(cases > 0);
}

/// The large image, generated by the rule in the file's metadata (`… of name 'bigimage' seed 0 … size W=500 H=375`): a
/// stream of pseudo-random bits and a gradient.
fn big_image(rule: &str) -> Image {
    let number = |word: &str| number_after(rule, word);
    let size = Size { height: number("H="), width: number("W=") };
    let name = rule.split('\'').nth(1).unwrap();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash = hash.wrapping_add(number("seed ") as u64);
    let pixels = (0..size.area() * 3).map(|i| {
        let mut z = hash.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let v = 2.0 * ((z >> 40) as f64 / (1u64 << 24) as f64) - 1.0;
        let (y, x, c) = (i / (3 * size.width), i / 3 % size.width, i % 3);
        let low = (x * 255) / (size.width - 1) + c * ((y * 255) / (size.height - 1));
        ((((v + 1.0) * 128.0).floor() as usize + 3 * (low % 256)) / 4) as u8
    });
    Image::new(size, pixels.collect()).unwrap()
}

#[test]
fn golden_large_images_have_the_same_checksums() {
    let Some(golden) = Golden::open("tf_geometric.safetensors") else { return };
    let Some(rule) = golden.metadata.get("bigimage") else { return };
    let image = big_image(rule);
    let sum = |name: &str| golden.get(name).1[0] as u32;
    assert_eq!(crc32fast::hash(image.pixels()), sum("bigimage/crc32"));
    let mut cases = 0;
    for name in golden.tensors.keys().filter(|n| n.starts_with("bigimage_crop") || n.contains("/bigimage/crc32")) {
        let Some(prefix) = name.strip_suffix("/crc32") else { continue };
        let (kind, rest) = prefix.split_once('/').unwrap();
        let got = if let Some(kind) = kind.strip_prefix("bigimage_") {
            let r: Vec<usize> = rest.split('_').map(|v| v.parse().unwrap()).collect();
            let part = crop(&image, r[0], r[1], Size { height: r[2], width: r[3] });
            resize(&part, Size::square(number_after(kind, "crop")), filter_in(kind))
        } else {
            let resized = resize(&image, shorter_side(image.size(), number_after(kind, "resize")), filter_in(kind));
            center_crop(&resized, Size::square(number_after(kind, "centercrop")))
        };
        assert_eq!(crc32fast::hash(got.pixels()), sum(name), "{name}");
        cases += 1;
    }
    assert!(cases > 0);
}

#[test]
fn golden_colors_are_exact() {
    let (Some(images), Some(golden)) = (Golden::open("images.safetensors"), Golden::open("tf_color.safetensors"))
    else {
        return;
    };
    let mut cases = 0;
    for name in golden.tensors.keys() {
        let Some((kind, source_name)) = name.split_once('/') else { continue };
        let image = source(&images, &golden, source_name);
        let factors = match kind {
            "brightness" | "contrast" | "saturation" => golden.get("factors").1.to_vec(),
            "hue" => golden.get("hue_factors").1.to_vec(),
            "grayscale3" | "hsv_roundtrip" | "solarize128" => vec![0.0],
            _ => continue,
        };
        for (k, factor) in factors.into_iter().map(|f| f as f32).enumerate() {
            let mut got = image.clone();
            match kind {
                "brightness" => color::brightness(&mut got, factor),
                "contrast" => color::contrast(&mut got, factor),
                "saturation" => color::saturation(&mut got, factor),
                "grayscale3" => color::grayscale(&mut got),
                "solarize128" => color::solarize(&mut got, 128),
                _ => color::hue(&mut got, factor),
            }
            assert_same(&got, &golden.image(name, k), &format!("{name} {factor}"));
            cases += 1;
        }
    }
    assert!(cases > 0);
}

/// All 2^24 colors, one value of red at a time.
#[test]
fn golden_every_color_is_exact() {
    let Some(bytes) = read("tf_exhaustive_checksums.json") else { return };
    let sums: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let checksum = |change: &dyn Fn(&mut Image)| {
        let mut hash = crc32fast::Hasher::new();
        for red in 0..=255u8 {
            let pixels = (0..1usize << 16).flat_map(|k| [red, (k >> 8) as u8, k as u8]).collect();
            let mut image = Image::new(Size { height: 256, width: 256 }, pixels).unwrap();
            change(&mut image);
            hash.update(image.pixels());
        }
        hash.finalize()
    };
    let want = |value: &serde_json::Value| value["crc32"].as_u64().unwrap() as u32;
    assert_eq!(checksum(&|_| {}), sums["input_crc32"].as_u64().unwrap() as u32);
    assert_eq!(checksum(&|image| color::hue(image, 0.0)), want(&sums["HSV_roundtrip_RGB"]));
    for (kind, change) in [("hue", color::hue as fn(&mut Image, f32)), ("saturation", color::saturation)] {
        for (factor, sum) in sums[kind].as_object().unwrap() {
            let factor: f32 = factor.parse().unwrap();
            assert_eq!(checksum(&|image| change(image, factor)), want(sum), "{kind} {factor}");
        }
    }
    for case in sums["blend"]["cases"].as_array().unwrap() {
        let alpha = case["alpha"].as_f64().unwrap() as f32;
        let bytes: Vec<u8> = (0..1usize << 16).map(|k| color::blend((k >> 8) as u8, k as u8, alpha)).collect();
        assert_eq!(crc32fast::hash(&bytes), want(case), "blend {alpha}");
    }
}

/// Asserts that at most this share of the values differs, by one step due to a rounding tie (the reference's
/// tolerances).
fn assert_blurred(got: &Image, want: &Image, share: f64, what: &str) {
    assert_eq!(got.size(), want.size(), "{what}");
    let steps = got.pixels().iter().zip(want.pixels()).map(|(a, b)| a.abs_diff(*b)).filter(|&d| d > 0);
    let steps: Vec<u8> = steps.collect();
    assert!(steps.iter().all(|&step| step == 1), "{what}: off by {:?}", steps.iter().max());
    let allowed = share * got.pixels().len() as f64;
    assert!(steps.len() as f64 <= allowed, "{what}: {} of {} values differ", steps.len(), got.pixels().len());
}

#[test]
fn golden_blurs() {
    let (Some(images), Some(golden)) = (Golden::open("images.safetensors"), Golden::open("tf_blur.safetensors")) else {
        return;
    };
    let sigmas = golden.get("sigmas").1;
    let mut cases = 0;
    for name in golden.tensors.keys() {
        let Some((kind, source_name)) = name.split_once('/') else { continue };
        if let (Some(kernel), true) = (kind.strip_prefix("blur_k"), images.tensors.contains_key(source_name)) {
            let image = images.image(source_name, 0);
            for (k, &sigma) in sigmas.iter().enumerate() {
                let got = gaussian_blur(&image, kernel.parse().unwrap(), sigma as f32);
                assert_blurred(&got, &golden.image(name, k), 1e-3, &format!("{name} {sigma}"));
                cases += 1;
            }
        }
        if let Some(kernel) = source_name.strip_prefix('k').filter(|_| kind == "kernel1d") {
            let (shape, values) = golden.get(name);
            for (k, &sigma) in sigmas.iter().enumerate() {
                let got = blur::weights(kernel.parse().unwrap(), sigma as f32);
                // exp may differ in the last bit between platforms.
                let near = |(got, want): (&f32, &f64)| (f64::from(*got) - want).abs() <= 2e-7;
                assert!(got.iter().zip(&values[k * shape[1]..][..shape[1]]).all(near), "{name} {sigma}");
                cases += 1;
            }
        }
    }
    assert!(cases > 0);
}

/// Policy and view of a name `<kind>_<dataset>_view<number>`, and the statistics of its vectors.
fn published(name: &str, side: usize) -> Option<(Policy, usize, Statistics)> {
    let (prefix, view) = name.split_once("_view")?;
    let (kind, dataset) = prefix.split_once('_')?;
    let dataset = if dataset == "cifar" { "cifar10" } else { dataset };
    let policy = format!("{kind}-{dataset}");
    let number: usize = view.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()?;
    let statistics = format!("published-{policy}").parse().ok()?;
    Some((Policy::built_in(&policy, side).ok()?, number - 1, statistics))
}

fn published_layout(policy: &Policy, statistics: Statistics) -> ParamLayout {
    ParamLayout::new(policy, &LayoutConfig { statistics, ..LayoutConfig::default() }, &[]).unwrap()
}

#[test]
fn golden_pipelines_are_exact_and_their_vectors_encode_back() {
    let (Some(images), Some(golden)) = (Golden::open("images.safetensors"), Golden::open("pipelines.safetensors"))
    else {
        return;
    };
    let names: Vec<String> = serde_json::from_str(&golden.metadata["image_names"]).unwrap();
    let mut cases = 0;
    for name in golden.tensors.keys().filter(|n| n.ends_with("/out_u8")) {
        let prefix = name.strip_suffix("/out_u8").unwrap();
        let (policy, view, statistics) = published(prefix, golden.get(name).0[1]).unwrap();
        let (layout, view) = (published_layout(&policy, statistics), &policy.views[view]);
        let (shape, vectors) = golden.get(&format!("{prefix}/params"));
        assert_eq!(shape[1], layout.width(), "{prefix}");
        for k in 0..golden.count(name) {
            let image = images.image(&names[golden.get(&format!("{prefix}/source_index")).1[k] as usize], 0);
            let vector: Vec<f32> = vectors[k * shape[1]..][..shape[1]].iter().map(|&v| v as f32).collect();
            let params = layout.decode(view, &vector, image.size()).unwrap();
            let (got, want, what) = (view.apply(&image, &params), golden.image(name, k), format!("{prefix} {k}"));
            let blurred = params.0.iter().any(|p| matches!(p, Params::GaussianBlur(Some(_))));
            if blurred {
                assert_blurred(&got, &want, 2e-3, &what)
            } else {
                assert_same(&got, &want, &what)
            }
            let mut encoded = Vec::new();
            layout.encode(view, &params, image.size(), &mut encoded);
            assert_eq!(encoded, vector);
            cases += 1;
        }
    }
    assert!(cases > 0);
}

/// Tolerances: |difference of means| < 4·√2·standard error (the reference's README), standard deviations within 4 %.
#[test]
fn golden_statistics_of_the_sampler() {
    let Some(bytes) = read("param_stats.json") else { return };
    let stats: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let list = |case: &serde_json::Value, key: &str| -> Vec<f64> {
        case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let mut cases = 0;
    for (name, case) in stats.as_object().unwrap().iter().filter(|(n, _)| n.contains("_view")) {
        let (width, height) = name.rsplit('_').next().unwrap().split_once('x').unwrap();
        let size = Size { height: height.parse().unwrap(), width: width.parse().unwrap() };
        let side = if name.contains("cifar") { 32 } else { 224 };
        let (mut policy, view, _) = published(name, side).unwrap();
        policy.views = vec![policy.views[view].clone()];
        let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[size]).unwrap();
        let (mean, std, error) = (list(case, "mean"), list(case, "std_unbiased"), list(case, "stderr_of_mean"));
        let measured = layout.measure(&policy, &[size], 100_000).unwrap();
        for i in 0..layout.width() {
            let what = format!("{name} {}", layout.names[i]);
            for ours in [f64::from(layout.mean[i]), measured.mean[i]] {
                let off = (ours - mean[i]).abs();
                assert!(off <= 4.0 * 2f64.sqrt() * error[i], "{what}: {ours} {}", mean[i]);
            }
            // A constant value is divided by 1.
            let expected = if std[i] == 0.0 { 1.0 } else { std[i] };
            assert!((f64::from(layout.std[i]) / expected - 1.0).abs() < 0.04, "{what}: {} {expected}", layout.std[i]);
        }
        cases += 1;
    }
    for (key, constants) in stats["official_p_constants"].as_object().unwrap() {
        let key = key.replace('_', "-");
        let policy = Policy::built_in(&key, 32).unwrap();
        let layout = published_layout(&policy, format!("published-{key}").parse().unwrap());
        for (kind, ours) in [("mean", &layout.mean), ("std", &layout.std)] {
            assert_eq!(&list(constants, kind).iter().map(|&v| v as f32).collect::<Vec<f32>>(), ours, "{key}");
        }
        cases += 1;
    }
    assert!(cases > 0);
}

#[test]
fn identity_parameters_change_no_pixel() {
    let image = Image::new(Size::square(32), (0..32 * 32 * 3).map(|i| (i * 31 % 251) as u8).collect()).unwrap();
    let policy = Policy::built_in("simclr-cifar10", 32).unwrap();
    let view = &policy.views[0];
    assert_eq!(view.apply(&image, &view.identity(image.size())), image);
    let clean = CleanView { resize: 32, crop: 32, filter: Filter::Bilinear };
    assert_eq!(clean_view(&image, &clean), image);
}

#[test]
fn sampled_parameters_stay_in_range_and_replay() {
    let policy = Policy::built_in("simclr-cifar10", 24).unwrap();
    let view = &policy.views[0];
    for draw in 0..2000u64 {
        let size = Size { height: 1 + (draw as usize * 7) % 61, width: 1 + (draw as usize * 13) % 47 };
        let params = view.sample(size, &mut view_rng(1, 2, draw, 0));
        assert_eq!(params, view.sample(size, &mut view_rng(1, 2, draw, 0)));
        let Params::Crop(Rectangle { top, left, height, width }) = params.0[0] else { panic!() };
        assert!(height > 0 && width > 0 && top + height <= size.height && left + width <= size.width);
        let mut shares = Vec::new();
        view.0[0].as_augmentation().encode(&params.0[0], size, Encoding::SizeNormalized, &mut shares);
        assert!(shares.iter().all(|s| (0.0..=1.0).contains(s)), "{shares:?}");
        let image = Image::new(size, (0..size.area() * 3).map(|i| (i * 89 % 256) as u8).collect()).unwrap();
        let (one, other) = (view.apply(&image, &params), view.apply(&image, &params));
        assert_eq!(one, other);
        assert_eq!(one.size(), Size::square(24));
    }
}
