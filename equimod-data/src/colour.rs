//! Pillow's colour arithmetic on 8-bit pixels, bit for bit.

use crate::image::Image;

/// Luminance, `(19595·R + 38470·G + 7471·B + 32768) >> 16`.
pub fn luminance(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) as u8
}

/// `a + factor·(b − a)` in f32, truncated; clipped where the factor leaves [0, 1].
pub fn blend(a: u8, b: u8, factor: f32) -> u8 {
    if factor == 0.0 {
        return a;
    }
    if factor == 1.0 {
        return b;
    }
    let value = f32::from(a) + factor * f32::from(i16::from(b) - i16::from(a));
    // Casting truncates and, outside [0, 255], clips.
    value as u8
}

/// Scales every value: blends black with the picture.
pub fn brightness(image: &mut Image, factor: f32) {
    apply_table(image, |value| blend(0, value, factor));
}

/// Blends the mean luminance, rounded, with the picture.
pub fn contrast(image: &mut Image, factor: f32) {
    let pixels = image.pixels();
    let sum: u64 = pixels.chunks_exact(3).map(|p| u64::from(luminance(p))).sum();
    let mean = (sum as f64 / (pixels.len() / 3) as f64 + 0.5) as u8;
    apply_table(image, |value| blend(mean, value, factor));
}

/// Blends the luminance of each pixel with the picture.
pub fn saturation(image: &mut Image, factor: f32) {
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        let grey = luminance(pixel);
        for value in pixel {
            *value = blend(grey, *value, factor);
        }
    }
}

/// Turns the hue by `shift` of a full circle, in steps of 1/255.
pub fn hue(image: &mut Image, shift: f32) {
    let turn = (f64::from(shift) * 255.0) as i32 as u8;
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        let [h, s, v] = rgb_to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&hsv_to_rgb([h.wrapping_add(turn), s, v]));
    }
}

/// Luminance in all three channels.
pub fn grayscale(image: &mut Image) {
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        pixel.fill(luminance(pixel));
    }
}

/// Inverts values from `threshold` on.
pub fn solarize(image: &mut Image, threshold: u8) {
    apply_table(image, |value| if value < threshold { value } else { 255 - value });
}

/// Keeps the upper `bits` of every value.
pub fn posterize(image: &mut Image, bits: u8) {
    let mask = 255u8.checked_shl(8 - u32::from(bits.min(8))).unwrap_or(0);
    apply_table(image, |value| value & mask);
}

/// Flattens the histogram of each channel, as Pillow's `ImageOps.equalize`.
pub fn equalise(image: &mut Image) {
    let mut histograms = [[0usize; 256]; 3];
    let (pixels, _) = image.pixels_mut().as_chunks_mut::<3>();
    for pixel in pixels.iter() {
        for (histogram, &value) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(value)] += 1;
        }
    }
    let tables = histograms.map(|histogram| equalising_table(&histogram));
    for pixel in pixels {
        for (table, value) in tables.iter().zip(pixel) {
            *value = table[usize::from(*value)];
        }
    }
}

/// `(step/2 + number of darker pixels) / step`, where a step is 1/255 of all pixels but those of the brightest value.
fn equalising_table(histogram: &[usize; 256]) -> [u8; 256] {
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

/// Hue, saturation and value as bytes.
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

/// The inverse of [`rgb_to_hsv`], up to rounding.
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
