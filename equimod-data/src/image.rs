//! 8-bit RGB images.

use std::fmt;
use std::io::Cursor;

use crate::{Error, Result};

/// Longest side of an image that is decoded, in pixels.
pub const LONGEST_SIDE: u32 = 1 << 15;
/// Most memory that decoding an image may take, in bytes.
pub const MOST_MEMORY: u64 = 1 << 29;

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl Size {
    /// Size of a square.
    pub fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// Whether an image can have this size: neither side is 0 or above [`LONGEST_SIDE`].
    pub(crate) fn is_sound(self) -> bool {
        let side = 1..=LONGEST_SIDE as usize;
        side.contains(&self.height) && side.contains(&self.width)
    }

    /// Number of pixels.
    pub fn area(self) -> usize {
        self.height * self.width
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} × {}", self.height, self.width)
    }
}

/// Result of examining an encoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Name of the format.
    pub format: &'static str,
    /// Errors in the file that decoding ignores, each as a clause; only JPEG files are examined.
    pub doubts: Vec<String>,
    /// Transparency, if some pixels are transparent.
    pub transparency: Option<Transparency>,
}

/// Transparency of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transparency {
    /// Without its alpha, the image shows something.
    Partial,
    /// Without its alpha, the image has only one color.
    OneColor,
}

/// Decoded image: height × width × 3 bytes, row by row, in the order red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    size: Size,
    pixels: Vec<u8>,
}

impl Image {
    /// Creates an image from `pixels`.
    ///
    /// # Errors
    ///
    /// If the size is empty or too large, or does not match the number of bytes.
    pub fn new(size: Size, pixels: Vec<u8>) -> Result<Self> {
        let bytes = size.height.checked_mul(size.width).and_then(|area| area.checked_mul(3));
        if bytes != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::Config(format!("an image of {size} does not have {} bytes", pixels.len())));
        }
        Ok(Self { size, pixels })
    }

    /// Creates an image from pixels that are known to match the size.
    pub(crate) fn made(size: Size, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), 3 * size.area());
        Self { size, pixels }
    }

    /// Encodes the image as a PNG file.
    ///
    /// # Errors
    ///
    /// If the encoder fails.
    pub fn encode_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        let (width, height) = (self.size.width as u32, self.size.height as u32);
        image::write_buffer_with_format(
            &mut bytes,
            &self.pixels,
            width,
            height,
            image::ExtendedColorType::Rgb8,
            image::ImageFormat::Png,
        )
        .map_err(|e| Error::Config(format!("an image cannot be encoded as PNG: {e}")))?;
        Ok(bytes.into_inner())
    }

    /// Height and width.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes of the pixels, row by row, in the order red, green, blue.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Mirrors left and right.
    pub(crate) fn flip_horizontally(&mut self) {
        let row = self.size.width * 3;
        for line in self.pixels.chunks_exact_mut(row) {
            line.as_chunks_mut::<3>().0.reverse();
        }
    }

    /// Mirrors top and bottom.
    pub(crate) fn flip_vertically(&mut self) {
        let row = self.size.width * 3;
        let (upper, lower) = self.pixels.split_at_mut(self.size.height / 2 * row);
        for (one, other) in upper.chunks_exact_mut(row).zip(lower.chunks_exact_mut(row).rev()) {
            one.swap_with_slice(other);
        }
    }

    /// Mutable RGB values, in rows.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Takes the pixels out of the image.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_reads_back_and_rubbish_is_refused_by_name() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 7) as u8).collect();
        let image = Image::new(Size { height: 5, width: 4 }, pixels).unwrap();
        let file = image.encode_png().unwrap();
        assert_eq!(Image::decode(&file, "a").unwrap(), image);
        assert_eq!(Image::decode_size(&file, "a").unwrap(), image.size());
        for bytes in [&file[..20], b"not an image", &[]] {
            assert!(Image::decode(bytes, "bad.png").unwrap_err().to_string().contains("bad.png"));
        }
        assert!(Image::new(Size::square(2), vec![0; 11]).is_err());
    }
}
