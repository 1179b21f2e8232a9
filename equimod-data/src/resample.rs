//! Pillow's antialiased resize on 8-bit pixels, bit for bit: two separable passes, horizontal first, weights in 22-bit
//! fixed point, rounding to 8 bits after each pass.

use serde::{Deserialize, Serialize};

use crate::image::{Image, Size};

/// Bits after the point of a weight.
const PRECISION: u32 = 22;

/// The interpolation filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle of support 1.
    Bilinear,
    /// Keys' cubic with a = −0.5, support 2.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn value(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            _ => 0.0,
        }
    }
}

/// The weights of one line's output pixels.
struct Weights {
    /// First input pixel and number of weights of each output pixel.
    bounds: Vec<(usize, usize)>,
    /// `longest` places for each output pixel.
    values: Vec<i32>,
    longest: usize,
}

impl Weights {
    fn new(inputs: usize, outputs: usize, filter: Filter) -> Self {
        let scale = inputs as f64 / outputs as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let longest = support.ceil() as usize * 2 + 1;
        let mut weights = Self { bounds: Vec::with_capacity(outputs), values: vec![0; longest * outputs], longest };
        for (x, values) in weights.values.chunks_exact_mut(longest).enumerate() {
            let centre = (x as f64 + 0.5) * scale;
            let low = ((centre - support + 0.5).max(0.0)) as usize;
            let high = ((centre + support + 0.5) as usize).min(inputs);
            let exact: Vec<f64> =
                (low..high).map(|k| filter.value((k as f64 - centre + 0.5) * (1.0 / filter_scale))).collect();
            let sum: f64 = exact.iter().sum();
            for (value, weight) in values.iter_mut().zip(&exact) {
                let fixed = weight / sum * f64::from(1 << PRECISION);
                *value = (fixed + if fixed < 0.0 { -0.5 } else { 0.5 }) as i32;
            }
            weights.bounds.push((low, high - low));
        }
        weights
    }

    fn of(&self, x: usize) -> (usize, &[i32]) {
        let (low, count) = self.bounds[x];
        (low, &self.values[x * self.longest..][..count])
    }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// Resizes a picture; a pass whose length does not change is left out.
pub fn resize(image: &Image, size: Size, filter: Filter) -> Image {
    let horizontal = if size.width == image.size().width { None } else { Some(horizontal(image, size.width, filter)) };
    let image = horizontal.as_ref().unwrap_or(image);
    if size.height == image.size().height {
        return image.clone();
    }
    vertical(image, size.height, filter)
}

fn horizontal(image: &Image, width: usize, filter: Filter) -> Image {
    let Size { height, width: inputs } = image.size();
    let weights = Weights::new(inputs, width, filter);
    let mut pixels = vec![0; height * width * 3];
    for (line, out) in image.pixels().chunks_exact(inputs * 3).zip(pixels.chunks_exact_mut(width * 3)) {
        for (x, out) in out.chunks_exact_mut(3).enumerate() {
            let (low, values) = weights.of(x);
            let mut sums = [HALF; 3];
            for (pixel, &weight) in line[low * 3..].chunks_exact(3).zip(values) {
                for (sum, &channel) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(channel) * weight;
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = round(sum);
            }
        }
    }
    Image::made(Size { height, width }, pixels)
}

fn vertical(image: &Image, height: usize, filter: Filter) -> Image {
    let Size { height: inputs, width } = image.size();
    let weights = Weights::new(inputs, height, filter);
    let row = width * 3;
    let mut pixels = vec![0; height * row];
    let mut sums = vec![0; row];
    for (y, out) in pixels.chunks_exact_mut(row).enumerate() {
        let (low, values) = weights.of(y);
        sums.fill(HALF);
        for (line, &weight) in image.pixels()[low * row..].chunks_exact(row).zip(values) {
            for (sum, &value) in sums.iter_mut().zip(line) {
                *sum += i32::from(value) * weight;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = round(sum);
        }
    }
    Image::made(Size { height, width }, pixels)
}

/// The part of a picture with its top left corner at (`top`, `left`); it must lie inside.
pub fn crop(image: &Image, top: usize, left: usize, size: Size) -> Image {
    let width = image.size().width;
    let mut pixels = Vec::with_capacity(size.area() * 3);
    for y in top..top + size.height {
        let start = (y * width + left) * 3;
        pixels.extend_from_slice(&image.pixels()[start..start + size.width * 3]);
    }
    Image::made(size, pixels)
}

/// The size with the shorter side `side`, as torchvision's `Resize(side)`.
pub fn shorter_side(size: Size, side: usize) -> Size {
    match size.height <= size.width {
        true => Size { height: side, width: (side * size.width / size.height).max(1) },
        false => Size { height: (side * size.height / size.width).max(1), width: side },
    }
}

/// The middle of a picture, as torchvision's `CenterCrop`: offsets are halves rounded to even. A side that is shorter
/// than asked for is padded with black.
pub fn centre_crop(image: &Image, size: Size) -> Image {
    let padded = pad_to(image, size);
    let image = padded.as_ref().unwrap_or(image);
    let offset = |inner: usize, outer: usize| ((outer - inner) as f64 / 2.0).round_ties_even() as usize;
    let (top, left) = (offset(size.height, image.size().height), offset(size.width, image.size().width));
    crop(image, top, left, size)
}

fn pad_to(image: &Image, size: Size) -> Option<Image> {
    let Size { height, width } = image.size();
    if height >= size.height && width >= size.width {
        return None;
    }
    let target = Size { height: height.max(size.height), width: width.max(size.width) };
    let (top, left) = ((target.height - height) / 2, (target.width - width) / 2);
    let mut pixels = vec![0; target.area() * 3];
    for (y, line) in image.pixels().chunks_exact(width * 3).enumerate() {
        let start = ((top + y) * target.width + left) * 3;
        pixels[start..start + width * 3].copy_from_slice(line);
    }
    Some(Image::made(target, pixels))
}
