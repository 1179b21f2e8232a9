//! Contact sheet: rows of images with text below them, drawn into one image.

use embedded_graphics::Drawable;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_6X10;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::Text;
use equimod_data::Image;

/// An image with its caption.
pub struct Cell {
    /// The image.
    pub image: Image,
    /// Lines of the caption.
    pub lines: Vec<String>,
}

/// Margin around every cell, in pixels.
const GAP: usize = 8;
/// Width of captions in characters, width of a character and height of a line in pixels.
const COLUMNS: usize = 36;
const CHARACTER: usize = 6;
const LINE: usize = 12;
/// Small images are enlarged by an integer factor up to this size, in pixels.
const LARGEST: usize = 216;

/// A white canvas in RGB.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = embedded_graphics::Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        for embedded_graphics::Pixel(Point { x, y }, color) in pixels {
            if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) {
                self.put(x, y, [color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

impl Canvas {
    fn put(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width && y < self.height {
            self.pixels[(y * self.width + x) * 3..][..3].copy_from_slice(&color);
        }
    }

    fn draw(&mut self, image: &Image, left: usize, top: usize, factor: usize) {
        let width = image.size().width;
        for (place, pixel) in image.pixels().as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (place % width * factor, place / width * factor);
            for within in 0..factor * factor {
                self.put(left + x + within % factor, top + y + within / factor, *pixel);
            }
        }
    }

    fn write(&mut self, line: &str, left: usize, top: usize) {
        // The font covers Latin-1 only.
        let line: String = line.chars().map(|c| if (c as u32) < 256 { c } else { '?' }).collect();
        let style = MonoTextStyle::new(&FONT_6X10, Rgb888::BLACK);
        // Drawing on the canvas cannot fail.
        let _ = Text::new(&line, Point::new(left as i32, (top + LINE - 3) as i32), style).draw(self);
    }
}

fn factor(image: &Image) -> usize {
    (LARGEST / image.size().height.max(image.size().width)).max(1)
}

/// Lines wrapped at spaces to the caption width; longer words are split.
fn wrapped(lines: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for line in lines {
        let mut rest: Vec<char> = line.chars().collect();
        while rest.len() > COLUMNS {
            let at = rest[..COLUMNS].iter().rposition(|c| *c == ' ').map_or(COLUMNS, |at| at + 1);
            out.push(rest[..at].iter().collect());
            rest = rest.split_off(at);
            rest.splice(0..0, [' ', ' ']);
        }
        out.push(rest.into_iter().collect());
    }
    out
}

/// Draws rows of cells.
///
/// # Errors
///
/// If the sheet is too large for an image.
pub fn draw(rows: &[Vec<Cell>]) -> anyhow::Result<Image> {
    let text = COLUMNS * CHARACTER;
    let width_of = |cell: &Cell| (cell.image.size().width * factor(&cell.image)).max(text) + GAP;
    let height_of =
        |cell: &Cell| cell.image.size().height * factor(&cell.image) + wrapped(&cell.lines).len() * LINE + GAP;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|row| row.get(c)).map(width_of).max().unwrap_or(0)).collect();
    let heights: Vec<usize> = rows.iter().map(|row| row.iter().map(height_of).max().unwrap_or(0)).collect();
    let (width, height) = (widths.iter().sum::<usize>() + GAP, heights.iter().sum::<usize>() + GAP);
    let mut canvas = Canvas { width, height, pixels: vec![255; width * height * 3] };
    let mut top = GAP;
    for (row, height) in rows.iter().zip(&heights) {
        let mut left = GAP;
        for (cell, width) in row.iter().zip(&widths) {
            let factor = factor(&cell.image);
            canvas.draw(&cell.image, left, top, factor);
            let below = top + cell.image.size().height * factor;
            for (k, line) in wrapped(&cell.lines).iter().enumerate() {
                canvas.write(line, left, below + k * LINE);
            }
            left += width;
        }
        top += height;
    }
    Ok(Image::new(equimod_data::Size { height: canvas.height, width: canvas.width }, canvas.pixels)?)
}
