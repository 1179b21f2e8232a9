//! Pillow's antialiased resize on 8-bit pixels, bit for bit: two separable passes, horizontal first, weights in 22-bit
//! fixed point, rounding to 8 bits after each pass.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::augment::Rectangle;
use crate::image::{Image, Size};
use crate::simd::vectorised;

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
    /// Whether the length stays, so that the pass is left out.
    identity: bool,
}

impl Weights {
    /// The weights of the output pixels `window`, of `outputs`.
    fn new(inputs: usize, outputs: usize, window: Range<usize>, filter: Filter) -> Self {
        if inputs == outputs {
            let bounds = window.map(|x| (x, 1)).collect();
            return Self { bounds, values: Vec::new(), longest: 0, identity: true };
        }
        let scale = inputs as f64 / outputs as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let longest = support.ceil() as usize * 2 + 1;
        let count = window.len();
        let (bounds, values) = (Vec::with_capacity(count), vec![0; longest * count]);
        let mut weights = Self { bounds, values, longest, identity: false };
        let mut exact = Vec::with_capacity(longest);
        for (x, values) in window.zip(weights.values.chunks_exact_mut(longest)) {
            let centre = (x as f64 + 0.5) * scale;
            let low = ((centre - support + 0.5).max(0.0)) as usize;
            let high = ((centre + support + 0.5) as usize).min(inputs);
            exact.clear();
            exact.extend((low..high).map(|k| filter.value((k as f64 - centre + 0.5) * (1.0 / filter_scale))));
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

    /// First input pixel that is read, and the one after the last.
    fn reach(&self) -> (usize, usize) {
        let first = self.bounds.first().map_or(0, |b| b.0);
        (first, self.bounds.last().map_or(first, |b| b.0 + b.1))
    }

    fn is_identity(&self) -> bool {
        self.identity
    }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// Resizes a picture; a pass whose length does not change is left out.
pub fn resize(image: &Image, size: Size, filter: Filter) -> Image {
    resize_part(image, Rectangle::whole(image.size()), size, filter)
}

/// Cuts `part`, which must lie inside, out of a picture and resizes it: torchvision's `resized_crop`.
pub fn resize_part(image: &Image, part: Rectangle, size: Size, filter: Filter) -> Image {
    resize_window(image, part, size, Rectangle::whole(size), filter)
}

/// Of `part` resized to `size`, the rectangle `window`: what resizing and then cropping gives, without the rest.
fn resize_window(image: &Image, part: Rectangle, size: Size, window: Rectangle, filter: Filter) -> Image {
    let columns = Weights::new(part.width, size.width, window.left..window.left + window.width, filter);
    let rows = Weights::new(part.height, size.height, window.top..window.top + window.height, filter);
    // Only the lines that the second pass reads.
    let (first, last) = rows.reach();
    let mut lines = vec![0; (last - first) * window.width * 3];
    let source = image.pixels().chunks_exact(image.size().width * 3).skip(part.top + first);
    for (line, out) in source.zip(lines.chunks_exact_mut(window.width * 3)) {
        horizontal(&line[part.left * 3..][..part.width * 3], out, &columns);
    }
    if rows.is_identity() {
        return Image::made(window.size(), lines);
    }
    let mut pixels = vec![0; window.size().area() * 3];
    vectorised(
        #[inline(always)]
        || vertical(&lines, first, &rows, &mut pixels, window.width * 3),
    );
    Image::made(window.size(), pixels)
}

/// One line of the first pass.
fn horizontal(line: &[u8], out: &mut [u8], columns: &Weights) {
    let (line, _) = line.as_chunks::<3>();
    let (out, _) = out.as_chunks_mut::<3>();
    if columns.is_identity() {
        let low = columns.reach().0;
        return out.copy_from_slice(&line[low..low + out.len()]);
    }
    for (x, out) in out.iter_mut().enumerate() {
        let (low, values) = columns.of(x);
        let mut sums = [HALF; 3];
        for (pixel, &weight) in line[low..].iter().zip(values) {
            for (sum, &channel) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(channel) * weight;
            }
        }
        *out = sums.map(round);
    }
}

/// Values that are summed at a time.
const BLOCK: usize = 64;

/// The second pass, over `lines` of `row` bytes that the first pass made from line `first` on.
#[inline(always)]
fn vertical(lines: &[u8], first: usize, rows: &Weights, out: &mut [u8], row: usize) {
    for (y, out) in out.chunks_exact_mut(row).enumerate() {
        let (low, values) = rows.of(y);
        let lines = &lines[(low - first) * row..];
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        for (k, block) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; BLOCK];
            for (line, &weight) in lines.chunks_exact(row).zip(values) {
                for (sum, &value) in sums.iter_mut().zip(&line[k * BLOCK..][..BLOCK]) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (out, sum) in block.iter_mut().zip(sums) {
                *out = round(sum);
            }
        }
        let start = row - rest.len();
        for (x, out) in rest.iter_mut().enumerate() {
            let products = lines.chunks_exact(row).zip(values).map(|(line, w)| i32::from(line[start + x]) * w);
            *out = round(HALF + products.sum::<i32>());
        }
    }
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

/// Resized so that the shorter side is `side`, then the middle square of `crop`: torchvision's `Resize`, `CenterCrop`.
pub fn resize_and_centre_crop(image: &Image, side: usize, crop: usize, filter: Filter) -> Image {
    let (size, target) = (shorter_side(image.size(), side), Size::square(crop));
    if size.height < crop || size.width < crop {
        return centre_crop(&resize(image, size, filter), target);
    }
    let window =
        Rectangle { top: middle(crop, size.height), left: middle(crop, size.width), height: crop, width: crop };
    resize_window(image, Rectangle::whole(image.size()), size, window, filter)
}

/// Offset of the middle `inner` of `outer`: half of what is left, rounded to even.
fn middle(inner: usize, outer: usize) -> usize {
    ((outer - inner) as f64 / 2.0).round_ties_even() as usize
}

/// The middle of a picture, as torchvision's `CenterCrop`: offsets are halves rounded to even. A side that is shorter
/// than asked for is padded with black.
pub fn centre_crop(image: &Image, size: Size) -> Image {
    let padded = pad_to(image, size);
    let image = padded.as_ref().unwrap_or(image);
    let (top, left) = (middle(size.height, image.size().height), middle(size.width, image.size().width));
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
