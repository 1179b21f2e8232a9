//! Pillow's rotations on 8-bit pixels.

use crate::image::{Image, Size};

/// Rotates an image counterclockwise by `turns` times 90 degrees, without changing any value.
pub fn quarter_turns(image: Image, turns: u8) -> Image {
    let Size { height, width } = image.size();
    let (pixels, _) = image.pixels().as_chunks::<3>();
    match turns % 4 {
        0 => image,
        2 => Image::made(image.size(), pixels.iter().rev().flatten().copied().collect()),
        odd => {
            let mut out = Vec::with_capacity(pixels.len() * 3);
            for y in 0..width {
                for x in 0..height {
                    let (from_y, from_x) = if odd == 1 { (x, width - 1 - y) } else { (height - 1 - x, y) };
                    out.extend_from_slice(&pixels[from_y * width + from_x]);
                }
            }
            Image::made(Size { height: width, width: height }, out)
        }
    }
}

/// Rotates an image counterclockwise about its center by `degrees`, with bilinear interpolation.
///
/// The size is kept, uncovered pixels are black, and values are truncated to 8 bits. Multiples of 90 degrees that keep
/// the size are exact.
pub fn rotate(image: &Image, degrees: f64) -> Image {
    let Size { height, width } = image.size();
    let angle = degrees.rem_euclid(360.0);
    if angle == 0.0 || angle == 180.0 || (height == width && (angle == 90.0 || angle == 270.0)) {
        return quarter_turns(image.clone(), (angle / 90.0) as u8);
    }
    // Maps output to input coordinates: (x, y) ↦ (a·x + b·y + c, −b·x + a·y + f), with the center fixed.
    // Rounded to 15 decimals as in Pillow; through text, because formatting rounds correctly.
    let round = |x: f64| format!("{x:.15}").parse().unwrap_or(x);
    let radians = -angle.to_radians();
    let (a, b): (f64, f64) = (round(radians.cos()), round(radians.sin()));
    let (d, e) = (round(-radians.sin()), a);
    let (center_x, center_y) = (width as f64 / 2.0, height as f64 / 2.0);
    let c = a * -center_x + b * -center_y + center_x;
    let f = d * -center_x + e * -center_y + center_y;
    let mut out = vec![0; height * width * 3];
    for (index, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((index % width) as f64 + 0.5, (index / width) as f64 + 0.5);
        sample(image, a * x + b * y + c, d * x + e * y + f, pixel);
    }
    Image::made(image.size(), out)
}

/// Interpolates the value at (`x`, `y`), where pixel centers are at halves; leaves `out` unchanged outside of the
/// image.
fn sample(image: &Image, x: f64, y: f64, out: &mut [u8]) {
    let Size { height, width } = image.size();
    if !(0.0..width as f64).contains(&x) || !(0.0..height as f64).contains(&y) {
        return;
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let column = |x: f64| (x.max(0.0) as usize).min(width - 1);
    let row = |y: f64| (y.max(0.0) as usize).min(height - 1);
    let at = |row: usize, column: usize, c: usize| f64::from(image.pixels()[(row * width + column) * 3 + c]);
    for (c, out) in out.iter_mut().enumerate() {
        let line = |row: usize| {
            let (one, other) = (at(row, column(left), c), at(row, column(left + 1.0), c));
            one + (other - one) * dx
        };
        let (upper, lower) = (line(row(top)), line(row(top + 1.0)));
        *out = (upper + (lower - upper) * dy) as u8;
    }
}
