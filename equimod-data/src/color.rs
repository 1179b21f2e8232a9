//! Pillow's color operations on 8-bit pixels, bit for bit.

use crate::image::Image;
use crate::rectangle::Rectangle;
use crate::simd::{truncated_to_byte, truncated_within, vectorized, vectorized_widest};

/// Luminance of an RGB pixel, `(19595·R + 38470·G + 7471·B + 32768) >> 16`.
pub fn luminance(pixel: &[u8]) -> u8 {
    luminance_of(pixel[0].into(), pixel[1].into(), pixel[2].into()) as u8
}

#[inline(always)]
fn luminance_of(r: i32, g: i32, b: i32) -> i32 {
    (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
}

/// Linear interpolation `a + factor·(b − a)` in f32, truncated and clipped to `[0, 255]`.
pub fn blend(a: u8, b: u8, factor: f32) -> u8 {
    if factor == 0.0 {
        return a;
    }
    if factor == 1.0 {
        return b;
    }
    let value = f32::from(a) + factor * f32::from(i16::from(b) - i16::from(a));
    // The cast truncates, and clips outside of [0, 255].
    value as u8
}

/// Scales the brightness: blends black with the image.
pub fn brightness(image: &mut Image, factor: f32) {
    apply_table(image, |value| blend(0, value, factor));
}

/// Scales the contrast: blends the rounded mean luminance with the image.
pub fn contrast(image: &mut Image, factor: f32) {
    let pixels = image.pixels().as_chunks::<3>().0;
    let mut sum = 0u64;
    vectorized(
        #[inline(always)]
        || sum = luminance_sum(pixels),
    );
    let mean = (sum as f64 / pixels.len() as f64 + 0.5) as u8;
    apply_table(image, |value| blend(mean, value, factor));
}

#[inline(always)]
fn luminance_sum(pixels: &[[u8; 3]]) -> u64 {
    // Partial sums fit 32 bits, so that the compiler can vectorize them.
    let sum =
        |pixels: &[[u8; 3]]| pixels.iter().map(|&[r, g, b]| luminance_of(r.into(), g.into(), b.into())).sum::<i32>();
    pixels.chunks(1 << 12).map(|pixels| sum(pixels) as u64).sum()
}

/// Scales the saturation: blends the luminance of each pixel with the image.
pub fn saturation(image: &mut Image, factor: f32) {
    if factor == 1.0 {
        return;
    }
    let pixels = image.pixels_mut().as_chunks_mut::<3>().0;
    vectorized(
        #[inline(always)]
        || each(pixels, |pixel| saturated(pixel, factor)),
    );
}

/// Steps of 1/255 of the circle that a hue shift by `shift` of it adds, modulo 256 as in Pillow.
pub fn hue_steps(shift: f32) -> u8 {
    (f64::from(shift) * 255.0) as i32 as u8
}

/// Bits that posterizing to the upper `bits` bits keeps.
pub fn posterize_mask(bits: u8) -> u8 {
    255u8.checked_shl(8 - u32::from(bits.min(8))).unwrap_or(0)
}

/// Shifts the hue by `shift` of a full circle, in steps of 1/255.
pub fn hue(image: &mut Image, shift: f32) {
    let steps = i32::from(hue_steps(shift));
    let pixels = image.pixels_mut().as_chunks_mut::<3>().0;
    vectorized_widest(
        #[inline(always)]
        || {
            let (blocks, rest) = pixels.as_chunks_mut::<BLOCK>();
            for block in blocks {
                shift_block(block, steps);
            }
            each(rest, |pixel| hue_shifted(pixel, steps));
        },
    );
}

/// Saturation change of one pixel. It is exact for the factor 0, too: gray + 0·(value − gray).
#[inline(always)]
fn saturated([r, g, b]: [i32; 3], factor: f32) -> [i32; 3] {
    let gray = luminance_of(r, g, b) as f32;
    [r, g, b].map(
        #[inline(always)]
        |value| truncated_to_byte(gray + factor * (value as f32 - gray)),
    )
}

/// Hue change of one pixel, equal to [`rgb_to_hsv`], an addition of `steps` to the hue, and [`hsv_to_rgb`].
///
/// It is branch-free and skips one rounding; every step rounds as in those functions (a test compares all colors).
#[inline(always)]
fn hue_shifted([r, g, b]: [i32; 3], steps: i32) -> [i32; 3] {
    let (highest, lowest) = (r.max(g).max(b), r.min(g).min(b));
    let middle = r + g + b - highest - lowest;
    let range = (highest - lowest) as f32;
    // A hue is the difference of two quotients, of which that of the lowest channel is 1.
    let other = (highest - middle) as f32 / range;
    let (of_red, of_green) = (r == highest, g == highest);
    let (rising, base) = if of_red {
        (g <= b, if g <= b { -1.0 } else { 1.0 })
    } else if of_green {
        (b <= r, if b <= r { 1.0 } else { 3.0 })
    } else {
        (r <= g, if r <= g { 3.0 } else { 5.0 })
    };
    let sixths = base + if rising { other } else { -other };
    let circle = f64::from(sixths) * (1.0 / 6.0) + 1.0;
    let circle = if circle >= 1.0 { circle - 1.0 } else { circle };
    let hue = truncated_within(f64::from(circle as f32) * 255.0, 0, 255);
    let saturation = truncated_within(f64::from(range / highest as f32) * 255.0, 0, 255);

    let in_sixths = ((hue + steps) & 255) * 6;
    let sector = in_sixths / 255;
    let f = (f64::from(in_sixths - 255 * sector) * (1.0 / 255.0)) as f32;
    let fs = (f64::from(saturation) * (1.0 / 255.0)) as f32;
    let value = f64::from(highest);
    let p = truncated_within(value * (1.0 - f64::from(fs)) + 0.5, 0, 255);
    let odd = sector & 1 == 1;
    let share = if odd { f64::from(fs * f) } else { f64::from(fs) * (1.0 - f64::from(f)) };
    let slope = truncated_within(value * (1.0 - share) + 0.5, 0, 255);
    let sector = if sector == 6 { 0 } else { sector };
    let half = sector >> 1;
    // Sectors 0 to 5: (v t p) (q v p) (p v t) (p q v) (t p v) (v p q); the slope is t or q.
    let (first, second) = if odd { (slope, highest) } else { (highest, slope) };
    let out = match half {
        0 => [first, second, p],
        1 => [p, first, second],
        _ => [second, p, first],
    };
    let gray = highest == lowest;
    out.map(
        #[inline(always)]
        |channel| if gray { highest } else { channel },
    )
}

/// Number of pixels whose hue is shifted at a time.
const BLOCK: usize = 32;

/// Hue change of a block in planar layout, in which the compiler can vectorize the long loop of [`hue_shifted`].
#[inline(always)]
fn shift_block(block: &mut [[u8; 3]; BLOCK], steps: i32) {
    let mut planes = [[0; BLOCK]; 3];
    for (k, pixel) in block.iter().enumerate() {
        for c in 0..3 {
            planes[c][k] = i32::from(pixel[c]);
        }
    }
    // Separate output planes: in place, the compiler does not see that the iterations are independent.
    let mut out = [[0; BLOCK]; 3];
    for k in 0..BLOCK {
        let pixel = hue_shifted([planes[0][k], planes[1][k], planes[2][k]], steps);
        for c in 0..3 {
            out[c][k] = pixel[c];
        }
    }
    for (k, pixel) in block.iter_mut().enumerate() {
        *pixel = [out[0][k] as u8, out[1][k] as u8, out[2][k] as u8];
    }
}

/// Changes each pixel independently, in a plain loop that the compiler vectorizes.
#[inline(always)]
fn each(pixels: &mut [[u8; 3]], change: impl Fn([i32; 3]) -> [i32; 3]) {
    for pixel in pixels {
        let [r, g, b] = change([pixel[0].into(), pixel[1].into(), pixel[2].into()]);
        *pixel = [r as u8, g as u8, b as u8];
    }
}

/// Replaces all three channels by the luminance.
pub fn grayscale(image: &mut Image) {
    let pixels = image.pixels_mut().as_chunks_mut::<3>().0;
    vectorized(
        #[inline(always)]
        || each(pixels, |[r, g, b]| [luminance_of(r, g, b); 3]),
    );
}

/// Inverts values at or above `threshold`.
pub fn solarize(image: &mut Image, threshold: u8) {
    apply_table(image, |value| if value < threshold { value } else { 255 - value });
}

/// Keeps the upper `bits` bits of every value.
pub fn posterize(image: &mut Image, bits: u8) {
    let mask = posterize_mask(bits);
    apply_table(image, |value| value & mask);
}

/// Fills the rectangle `part`, clipped to the image, with a color.
pub fn fill(image: &mut Image, part: Rectangle, color: [u8; 3]) {
    let part = part.within(image.size());
    let row = image.size().width * 3;
    for line in image.pixels_mut().chunks_exact_mut(row).skip(part.top).take(part.height) {
        let (pixels, _) = line.as_chunks_mut::<3>();
        pixels[part.left..part.left + part.width].fill(color);
    }
}

/// Equalizes the histogram of each channel, as Pillow's `ImageOps.equalize`.
pub fn equalize(image: &mut Image) {
    let mut histograms = [[0usize; 256]; 3];
    let (pixels, _) = image.pixels_mut().as_chunks_mut::<3>();
    for pixel in pixels.iter() {
        for (histogram, &value) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(value)] += 1;
        }
    }
    let tables = histograms.map(|histogram| equalization_table(&histogram));
    for pixel in pixels {
        for (table, value) in tables.iter().zip(pixel) {
            *value = table[usize::from(*value)];
        }
    }
}

/// Lookup table `(step/2 + number of darker pixels) / step`, where `step` is 1/255 of all pixels except those of the
/// brightest value.
fn equalization_table(histogram: &[usize; 256]) -> [u8; 256] {
    let total: usize = histogram.iter().sum();
    let brightest = histogram.iter().rev().copied().find(|&count| count > 0).unwrap_or(0);
    let step = (total - brightest) / 255;
    if step == 0 {
        return std::array::from_fn(|value| value as u8);
    }
    let mut darker = step / 2;
    histogram.map(|count| {
        let level = darker / step;
        darker += count;
        level.min(255) as u8
    })
}

fn apply_table(image: &mut Image, value: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|i| value(i as u8));
    for pixel in image.pixels_mut() {
        *pixel = table[usize::from(*pixel)];
    }
}

/// Converts RGB to hue, saturation and value, all in bytes.
pub fn rgb_to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (highest, lowest) = (r.max(g).max(b), r.min(g).min(b));
    if highest == lowest {
        return [0, 0, highest];
    }
    let range = f32::from(highest - lowest);
    let saturation = range / f32::from(highest);
    let below = |value: u8| f32::from(highest - value) / range;
    let (rc, gc, bc) = (below(r), below(g), below(b));
    let sixths = if r == highest {
        bc - gc
    } else if g == highest {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, highest]
}

/// Inverse of [`rgb_to_hsv`], up to rounding.
pub fn hsv_to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixths = f64::from(f32::from(h)) * 6.0 / 255.0;
    let sector = sixths.floor();
    let f = (sixths - sector) as f32;
    let fs = (f64::from(s) / 255.0) as f32;
    let value = f64::from(v);
    let byte = |x: f64| x.round().clamp(0.0, 255.0) as u8;
    let p = byte(value * (1.0 - f64::from(fs)));
    let q = byte(value * (1.0 - f64::from(fs * f)));
    let t = byte(value * (1.0 - f64::from(fs) * (1.0 - f64::from(f))));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
