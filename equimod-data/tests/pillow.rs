//! Decoding, and operations that the golden files do not cover, against Pillow 9.5.0 (`tests/fixtures/pillow/make.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use equimod_data::rotate::{quarter_turns, rotate};
use equimod_data::{Augmentation, Image, Params, ReadOptions, color};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pillow").join(name)
}

fn open(path: &Path) -> Image {
    Image::decode(&fs::read(path).unwrap(), &path.display().to_string()).unwrap()
}

/// Largest difference between values of two images.
fn off(got: &Image, want: &Image, what: &str) -> u8 {
    assert_eq!(got.size(), want.size(), "{what}");
    got.pixels().iter().zip(want.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn images_enter_as_pillow_gives_them() {
    let mut cases = 0;
    for entry in fs::read_dir(folder("decode")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = folder("decode").join(format!("{name}.expected.png"));
        if !expected.is_file() {
            continue;
        }
        let want = open(&expected);
        // JPEG decoders may differ in the rounding of the inverse transform and of the color conversion.
        let allowed = if name.ends_with("jpg") { 3 } else { 0 };
        let off = off(&open(&path), &want, &name);
        assert!(off <= allowed, "{name}: off by {off}");
        cases += 1;
    }
    assert!(cases > 15);
}

#[test]
fn orientation_is_applied_only_when_asked_for() {
    let bytes = fs::read(folder("decode/turned.jpg")).unwrap();
    let options = ReadOptions { apply_orientation: true, ..ReadOptions::default() };
    let (plain, turned) = (Image::decode(&bytes, "t").unwrap(), Image::decode_with(&bytes, "t", options).unwrap());
    assert_eq!((plain.size().height, plain.size().width), (turned.size().width, turned.size().height));
    assert!(off(&turned, &open(&folder("decode/turned.jpg.oriented.png")), "turned") <= 3);
    assert_eq!(Image::decode_size(&bytes, "t").unwrap(), plain.size());
}

#[test]
fn operations_are_exact() {
    let expected = |name: &str| open(&folder("operations").join(format!("{name}.png")));
    let source = expected("source");
    let changed = |change: &dyn Fn(&mut Image)| {
        let mut image = source.clone();
        change(&mut image);
        image
    };
    assert_eq!(changed(&color::equalize), expected("equalize"));
    assert_eq!(changed(&|image| color::posterize(image, 3)), expected("posterize3"));
    let mut dark = expected("dark");
    color::equalize(&mut dark);
    assert_eq!(dark, expected("dark_equalize"));
    let flip = equimod_data::augment::VerticalFlip { probability: 1.0 };
    assert_eq!(flip.apply(source.clone(), &Params::Switch(true)), expected("flip"));
    for turns in 1..4u8 {
        let name = format!("rotate{}", u32::from(turns) * 90);
        assert_eq!(quarter_turns(source.clone(), turns), expected(&name), "{name}");
    }
    for angle in [17.5, -130.0, 90.0] {
        assert_eq!(rotate(&source, angle), expected(&format!("rotate_{angle}")), "{angle}");
    }
}

#[test]
fn cut_files_are_refused() {
    for name in ["420.jpg", "progressive.jpg", "cmyk.jpg", "turned.jpg", "rgb.png", "lossless.webp", "rgb.bmp"] {
        let bytes = fs::read(folder("decode").join(name)).unwrap();
        for cut in 0..bytes.len() - 3 {
            let end = Image::decode(&bytes[..cut], name);
            // All pixels of a PNG precede its last chunk.
            assert!(end.is_err() || (name == "rgb.png" && cut + 16 > bytes.len()), "{name} cut at {cut}");
        }
        let more = [bytes.as_slice(), b"what a camera appends"].concat();
        assert_eq!(Image::decode(&more, name).unwrap(), Image::decode(&bytes, name).unwrap(), "{name}");
    }
}
