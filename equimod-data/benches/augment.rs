//! Every image operation separately: `cargo bench -p equimod-data --bench augment`.
#![allow(clippy::unwrap_used, missing_docs)]

use divan::{Bencher, black_box};
use equimod_data::blur::gaussian_blur;
use equimod_data::resample::{Filter, resize, resize_part};
use equimod_data::{CleanView, Image, LayoutConfig, ParamLayout, Policy, Rectangle, Size, clean_view, color, view_rng};

fn main() {
    divan::main();
}

/// Smooth noise, in which neighboring pixels are similar as in photographs.
fn test_image(height: usize, width: usize) -> Image {
    use rand::RngCore;
    let low = Size { height: height / 4, width: width / 4 };
    let mut pixels = vec![0; low.area() * 3];
    view_rng(1, 2, 3, 4).fill_bytes(&mut pixels);
    resize(&Image::new(low, pixels).unwrap(), Size { height, width }, Filter::Bicubic)
}

const SIDES: [usize; 2] = [32, 224];

fn in_place(bencher: Bencher, side: usize, change: impl Fn(&mut Image) + Sync) {
    let image = test_image(side, side);
    bencher.with_inputs(|| image.clone()).bench_local_refs(|image| change(image));
}

#[divan::bench(args = SIDES)]
fn brightness(bencher: Bencher, side: usize) {
    in_place(bencher, side, |image| color::brightness(image, 1.3));
}

#[divan::bench(args = SIDES)]
fn contrast(bencher: Bencher, side: usize) {
    in_place(bencher, side, |image| color::contrast(image, 1.3));
}

#[divan::bench(args = SIDES)]
fn saturation(bencher: Bencher, side: usize) {
    in_place(bencher, side, |image| color::saturation(image, 1.3));
}

#[divan::bench(args = SIDES)]
fn hue(bencher: Bencher, side: usize) {
    in_place(bencher, side, |image| color::hue(image, 0.07));
}

#[divan::bench(args = SIDES)]
fn grayscale(bencher: Bencher, side: usize) {
    in_place(bencher, side, color::grayscale);
}

#[divan::bench(args = [(32, 3, 1.0), (224, 23, 0.5), (224, 23, 1.0), (224, 23, 2.0)])]
fn blur(bencher: Bencher, (side, kernel, sigma): (usize, usize, f32)) {
    let image = test_image(side, side);
    bencher.bench_local(|| gaussian_blur(black_box(&image), kernel, sigma));
}

#[divan::bench(args = [(32, 24, 32), (375, 240, 224), (375, 120, 224)])]
fn resized_crop(bencher: Bencher, (from, part, to): (usize, usize, usize)) {
    let image = test_image(from, from * 4 / 3);
    let part = Rectangle { top: 3, left: 5, height: part, width: part };
    bencher.bench_local(|| resize_part(black_box(&image), part, Size::square(to), Filter::Bicubic));
}

#[divan::bench]
fn clean_view_of_375_by_500(bencher: Bencher) {
    let image = test_image(375, 500);
    let clean = CleanView { resize: 256, crop: 224, filter: Filter::Bilinear };
    bencher.bench_local(|| clean_view(black_box(&image), &clean));
}

#[divan::bench]
fn sample_and_encode(bencher: Bencher) {
    let policy = Policy::built_in("simclr-cifar10", 32).unwrap();
    let size = Size::square(32);
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[size]).unwrap();
    let mut sample = 0;
    bencher.bench_local(|| {
        sample += 1;
        let mut out = Vec::new();
        let params = policy.views[0].sample(size, &mut view_rng(0, 0, sample, 0));
        layout.encode(&policy.views[0], &params, size, &mut out);
        out
    });
}

/// Views of an image under the policy, with new parameters each time.
#[divan::bench(args = [("simclr-cifar10", 32), ("simclr-imagenet", 224)])]
fn view(bencher: Bencher, (name, side): (&str, usize)) {
    let policy = Policy::built_in(name, side).unwrap();
    let image = if side == 32 { test_image(32, 32) } else { test_image(375, 500) };
    let mut sample = 0;
    bencher.bench_local(|| {
        sample += 1;
        let params = policy.views[0].sample(image.size(), &mut view_rng(0, 0, sample, 0));
        policy.views[0].apply(&image, &params)
    });
}
