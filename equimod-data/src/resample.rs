//! Pillow's antialiased resize on 8-bit pixels, bit for bit: two separable passes, horizontal first, with weights in
//! 22-bit fixed point and rounding to 8 bits after each pass.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::{Image, LONGEST_SIDE, Size};
use crate::rectangle::Rectangle;
use crate::simd::{truncated_within, vectorized, vectorized_widest};

/// Fractional bits of a fixed-point weight.
pub const PRECISION: u32 = 22;

/// Interpolation filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Bilinear: a triangle of support 1.
    Bilinear,
    /// Bicubic: Keys' cubic with a = −0.5, of support 2.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    #[inline(always)]
    fn value(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic => {
                let inner = ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0;
                let outer = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
                let value = if x < 1.0 { inner } else { outer };
                if x < 2.0 { value } else { 0.0 }
            }
        }
    }
}

/// Resampling weights along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Index of the first input pixel and number of weights, for each output pixel.
    pub bounds: Vec<(usize, usize)>,
    /// Fixed-point weights with [`PRECISION`] fractional bits, `longest` slots for each output pixel; unused slots
    /// are 0. It is empty if the length does not change: then every output pixel is its first input pixel.
    pub values: Vec<i32>,
    /// Slots of each output pixel.
    pub longest: usize,
}

impl Weights {
    /// Weights of the output pixels `window`, if `inputs` pixels become `outputs`.
    pub fn new(inputs: usize, outputs: usize, window: Range<usize>, filter: Filter) -> Self {
        if inputs == outputs {
            let bounds = window.map(|x| (x, 1)).collect();
            return Self { bounds, values: Vec::new(), longest: 0 };
        }
        let scale = inputs as f64 / outputs as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let longest = support.ceil() as usize * 2 + 1;
        let centers: Vec<f64> = window.map(|x| (x as f64 + 0.5) * scale).collect();
        let bounds = centers.iter().map(|center| {
            let low = ((center - support + 0.5).max(0.0)) as usize;
            (low, ((center + support + 0.5) as usize).min(inputs) - low)
        });
        let bounds: Vec<(usize, usize)> = bounds.collect();
        let mut values = vec![0; longest * bounds.len()];
        vectorized_widest(
            #[inline(always)]
            || match filter {
                Filter::Bilinear => fill(Filter::Bilinear, &centers, &bounds, filter_scale, &mut values),
                Filter::Bicubic => fill(Filter::Bicubic, &centers, &bounds, filter_scale, &mut values),
            },
        );
        Self { bounds, values, longest }
    }

    fn of(&self, x: usize) -> (usize, &[i32]) {
        let (low, count) = self.bounds[x];
        (low, &self.values[x * self.longest..][..count])
    }

    /// Range of the input pixels that are read: the first one, and the one after the last.
    pub fn reach(&self) -> (usize, usize) {
        let first = self.bounds.first().map_or(0, |b| b.0);
        (first, self.bounds.last().map_or(first, |b| b.0 + b.1))
    }

    /// Whether the length does not change, so that the pass can be skipped.
    fn is_identity(&self) -> bool {
        self.values.is_empty()
    }
}

/// Number of output pixels whose weights are computed at a time.
const GROUP: usize = 32;

/// Fixed-point weights of output pixels with the given centers; unused slots stay 0.
#[inline(always)]
fn fill(filter: Filter, centers: &[f64], bounds: &[(usize, usize)], filter_scale: f64, values: &mut [i32]) {
    let longest = values.len() / centers.len().max(1);
    let mut exact = vec![[0f64; GROUP]; longest];
    let groups = centers.chunks(GROUP).zip(bounds.chunks(GROUP)).zip(values.chunks_mut(GROUP * longest));
    for ((centers, bounds), values) in groups {
        let (mut starts, mut counts) = ([0f64; GROUP], [0f64; GROUP]);
        for (k, (center, &(low, count))) in centers.iter().zip(bounds).enumerate() {
            (starts[k], counts[k]) = (low as f64 - center + 0.5, count as f64);
        }
        let mut sums = [0f64; GROUP];
        for (tap, exact) in exact.iter_mut().enumerate() {
            for k in 0..GROUP {
                let weight = filter.value((starts[k] + tap as f64) * (1.0 / filter_scale));
                exact[k] = if (tap as f64) < counts[k] { weight } else { 0.0 };
                sums[k] += exact[k];
            }
        }
        for (tap, exact) in exact.iter().enumerate() {
            let mut fixed = [0i32; GROUP];
            for k in 0..GROUP {
                let scaled = exact[k] / sums[k] * f64::from(1 << PRECISION);
                fixed[k] = truncated_within(scaled + if scaled < 0.0 { -0.5 } else { 0.5 }, -LARGEST, LARGEST);
            }
            for (values, fixed) in values.chunks_exact_mut(longest).zip(fixed) {
                values[tap] = fixed;
            }
        }
    }
}

/// Bound of the magnitude of fixed-point weights.
const LARGEST: i32 = 1 << 30;

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// Resizes an image; a pass that does not change the length is skipped. A side of 0 counts as 1.
pub fn resize(image: &Image, size: Size, filter: Filter) -> Image {
    resize_part(image, Rectangle::whole(image.size()), size, filter)
}

/// Crops the rectangle `part`, clipped to the image, and resizes it: torchvision's `resized_crop`.
pub fn resize_part(image: &Image, part: Rectangle, size: Size, filter: Filter) -> Image {
    let size = Size { height: size.height.max(1), width: size.width.max(1) };
    resize_window(image, part.within(image.size()), size, Rectangle::whole(size), filter)
}

/// The rectangle `window` of `part` resized to `size`: equal to resizing and cropping, without computing the rest.
pub(crate) fn resize_window(image: &Image, part: Rectangle, size: Size, window: Rectangle, filter: Filter) -> Image {
    let columns = Weights::new(part.width, size.width, window.left..window.left + window.width, filter);
    let rows = Weights::new(part.height, size.height, window.top..window.top + window.height, filter);
    // Only the rows that the second pass reads.
    let (first, last) = rows.reach();
    let mut lines = vec![0; (last - first) * window.width * 3];
    let source = image.pixels().chunks_exact(image.size().width * 3).skip(part.top + first);
    let source = source.map(|line| &line[part.left * 3..][..part.width * 3]);
    if columns.is_identity() {
        let low = columns.reach().0 * 3;
        let rows = source.zip(lines.chunks_exact_mut(window.width * 3));
        rows.for_each(|(line, out)| out.copy_from_slice(&line[low..low + out.len()]));
    } else {
        let spread = Spread::new(&columns);
        vectorized(
            #[inline(always)]
            || horizontal(source.clone(), &columns, &spread, &mut lines),
        );
    }
    if rows.is_identity() {
        return Image::made(window.size(), lines);
    }
    let mut pixels = vec![0; window.size().area() * 3];
    vectorized(
        #[inline(always)]
        || vertical(&lines, first, &rows, &mut pixels, window.width * 3),
    );
    Image::made(window.size(), pixels)
}

/// Number of pixels whose three channels fill a vector of [`LANES`], except for one lane.
const TAPS: usize = 5;
const LANES: usize = 16;

/// Weights of the first pass, each repeated three times, in vectors of five pixels.
struct Spread {
    /// Number of vectors for each output pixel.
    vectors: usize,
    values: Vec<[i32; LANES]>,
}

impl Spread {
    fn new(columns: &Weights) -> Self {
        let vectors = columns.longest.div_ceil(TAPS);
        let mut values = vec![[0; LANES]; vectors * columns.bounds.len()];
        for (x, vectors) in values.chunks_exact_mut(vectors.max(1)).enumerate() {
            for (k, &weight) in columns.of(x).1.iter().enumerate() {
                vectors[k / TAPS][k % TAPS * 3..][..3].fill(weight);
            }
        }
        Self { vectors, values }
    }
}

/// First pass: rows of the image to rows of the window's width.
#[inline(always)]
fn horizontal<'a>(source: impl Iterator<Item = &'a [u8]>, columns: &Weights, spread: &Spread, out: &mut [u8]) {
    let row = columns.bounds.len() * 3;
    let mut padded: Vec<u8> = Vec::new();
    let mut products = vec![[0i32; LANES]; columns.bounds.len()];
    for (line, out) in source.zip(out.chunks_exact_mut(row)) {
        // Vectors reach beyond the end of the row, where their weights are 0.
        padded.resize(line.len() + (spread.vectors + 1) * LANES, 0);
        padded[..line.len()].copy_from_slice(line);
        multiply(&padded, columns, spread, &mut products);
        let (out, _) = out.as_chunks_mut::<3>();
        for (out, sums) in out.iter_mut().zip(&products) {
            // Sums every third of fifteen lanes; the fourth channel fills the vector.
            let mut channels = [HALF; 4];
            for (c, channel) in channels.iter_mut().enumerate() {
                *channel += sums[c] + sums[c + 3] + sums[c + 6] + sums[c + 9] + sums[c + 12];
            }
            let channels = channels.map(round);
            *out = [channels[0], channels[1], channels[2]];
        }
    }
}

/// Products of weights and values for each output pixel, added up over vectors of five pixels.
#[inline(always)]
fn multiply(padded: &[u8], columns: &Weights, spread: &Spread, products: &mut [[i32; LANES]]) {
    let vectors = spread.values.chunks_exact(spread.vectors);
    for ((sums, &(low, _)), vectors) in products.iter_mut().zip(&columns.bounds).zip(vectors) {
        let mut total = [0; LANES];
        for (k, weights) in vectors.iter().enumerate() {
            let Some(pixels) = padded[low * 3 + k * TAPS * 3..].first_chunk::<LANES>() else { break };
            for lane in 0..LANES {
                total[lane] += i32::from(pixels[lane]) * weights[lane];
            }
        }
        *sums = total;
    }
}

/// Number of values that are summed at a time.
const BLOCK: usize = 32;

/// Second pass, over `lines` of `row` bytes each, the output of the first pass from row `first` on.
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

/// Crops an image at (`top`, `left`) to `size`, clipped to the image.
pub fn crop(image: &Image, top: usize, left: usize, size: Size) -> Image {
    let part = Rectangle { top, left, height: size.height, width: size.width }.within(image.size());
    let (Rectangle { top, left, .. }, size) = (part, part.size());
    let width = image.size().width;
    let mut pixels = Vec::with_capacity(size.area() * 3);
    for y in top..top + size.height {
        let start = (y * width + left) * 3;
        pixels.extend_from_slice(&image.pixels()[start..start + size.width * 3]);
    }
    Image::made(size, pixels)
}

/// Size whose shorter side is `side`, as torchvision's `Resize(side)`. The longer side is limited to [`LONGEST_SIDE`],
/// so that extremely elongated images do not exhaust memory.
pub fn shorter_side(size: Size, side: usize) -> Size {
    let longer = |long: usize, short: usize| (side * long / short).clamp(1, side.max(LONGEST_SIDE as usize));
    match size.height <= size.width {
        true => Size { height: side, width: longer(size.width, size.height) },
        false => Size { height: longer(size.height, size.width), width: side },
    }
}

/// Resizes the shorter side to `side`, then crops the center square of `crop`: torchvision's `Resize` and `CenterCrop`.
pub fn resize_and_center_crop(image: &Image, side: usize, crop: usize, filter: Filter) -> Image {
    let size = shorter_side(image.size(), side);
    match center_window(size, crop) {
        Some(window) => resize_window(image, Rectangle::whole(image.size()), size, window, filter),
        None => center_crop(&resize(image, size, filter), Size::square(crop)),
    }
}

/// Center square of `crop` in an image of `size`; `None` if it does not fit.
pub(crate) fn center_window(size: Size, crop: usize) -> Option<Rectangle> {
    let middle = |side| middle(crop, side);
    let fits = size.height >= crop && size.width >= crop;
    fits.then(|| Rectangle { top: middle(size.height), left: middle(size.width), height: crop, width: crop })
}

/// Offset of a centered `inner` in `outer`: half of the difference, ties rounded to even.
fn middle(inner: usize, outer: usize) -> usize {
    ((outer - inner) as f64 / 2.0).round_ties_even() as usize
}

/// Crops the center, as torchvision's `CenterCrop`: offsets are halves rounded to even. Sides shorter than requested
/// are padded with black.
pub fn center_crop(image: &Image, size: Size) -> Image {
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
