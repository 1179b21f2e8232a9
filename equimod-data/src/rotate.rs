//! Pillow's rotations on 8-bit pixels.

use crate::image::{Image, Size};

/// Turns a picture by `turns` times 90 degrees against the clock; no value changes.
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

/// Turns a picture about its centre by `degrees` against the clock: bilinear, values truncated to 8 bits, the size kept,
/// black where nothing comes from. Multiples of 90 degrees that keep the size are exact turns.
pub fn rotate(image: &Image, degrees: f64) -> Image {
    let Size { height, width } = image.size();
    let angle = degrees.rem_euclid(360.0);
    if angle == 0.0 || angle == 180.0 || (height == width && (angle == 90.0 || angle == 270.0)) {
        return quarter_turns(image.clone(), (angle / 90.0) as u8);
    }
    // Output to input: (x, y) ↦ (a·x + b·y + c, −b·x + a·y + f), the centre staying where it is.
    // To 15 decimals, as Pillow: by way of text, where rounding is right to the last bit.
    let round = |x: f64| format!("{x:.15}").parse().unwrap_or(x);
    let turn = -angle.to_radians();
    let (a, b): (f64, f64) = (round(turn.cos()), round(turn.sin()));
    let (d, e) = (round(-turn.sin()), a);
    let (centre_x, centre_y) = (width as f64 / 2.0, height as f64 / 2.0);
    let c = a * -centre_x + b * -centre_y + centre_x;
    let f = d * -centre_x + e * -centre_y + centre_y;
    let mut out = vec![0; height * width * 3];
    for (place, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((place % width) as f64 + 0.5, (place / width) as f64 + 0.5);
        sample(image, a * x + b * y + c, d * x + e * y + f, pixel);
    }
    Image::made(image.size(), out)
}

/// The value at (`x`, `y`), pixel centres at halves; untouched where that is outside.
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
