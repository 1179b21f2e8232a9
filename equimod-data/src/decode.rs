//! From the bytes of a file to 8-bit red, green and blue.

use std::io::{BufRead, Cursor, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::image::{Image, Size};

/// Longest side of a picture that is decoded.
pub const LONGEST_SIDE: u32 = 1 << 15;
/// Most memory that decoding a picture may take, in bytes.
pub const MOST_MEMORY: u64 = 1 << 29;
/// Most pixels: their channels, and as much again for the decoder, fit the memory.
const MOST_PIXELS: u64 = MOST_MEMORY / 6;

type Decoded<T> = std::result::Result<T, String>;

/// Decodes a file; EXIF orientation is ignored.
pub(crate) fn picture(bytes: &[u8]) -> Decoded<Image> {
    let reader = reader(Cursor::new(bytes))?;
    if reader.format() == Some(ImageFormat::Jpeg) {
        return jpeg(bytes);
    }
    let decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    let size = Size { height: decoded.height() as usize, width: decoded.width() as usize };
    finish(size, to_rgb(decoded))
}

/// Decodes a file and turns the picture as its EXIF orientation says.
pub(crate) fn oriented(bytes: &[u8]) -> Decoded<Image> {
    let picture = picture(bytes)?;
    let orientation = reader(Cursor::new(bytes))?.into_decoder().and_then(|mut decoder| decoder.orientation());
    let orientation = orientation.map_err(|e| e.to_string())?;
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let (height, width) = (picture.size().height as u32, picture.size().width as u32);
    let buffer = image::RgbImage::from_raw(width, height, picture.into_pixels()).ok_or("its size overflows")?;
    let mut turned = DynamicImage::ImageRgb8(buffer);
    turned.apply_orientation(orientation);
    finish(Size { height: turned.height() as usize, width: turned.width() as usize }, turned.into_rgb8().into_raw())
}

/// The size that a file's header says; EXIF orientation is ignored.
pub(crate) fn size(source: impl BufRead + Seek) -> Decoded<Size> {
    let (width, height) = reader(source)?.into_dimensions().map_err(|e| e.to_string())?;
    check_size(width, height)?;
    Ok(Size { height: height as usize, width: width as usize })
}

fn reader<R: BufRead + Seek>(source: R) -> Decoded<ImageReader<R>> {
    let mut reader = ImageReader::new(source).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    Ok(reader)
}

fn check_size(width: u32, height: u32) -> Decoded<()> {
    let fine = width.max(height) <= LONGEST_SIDE && u64::from(width) * u64::from(height) <= MOST_PIXELS;
    if fine {
        Ok(())
    } else {
        Err(format!("it is {height} × {width}, more than sides of {LONGEST_SIDE} or {MOST_PIXELS} pixels"))
    }
}

fn finish(size: Size, pixels: Vec<u8>) -> Decoded<Image> {
    Image::new(size, pixels).map_err(|e| e.to_string())
}

/// Straight from the decoder, without a copy.
fn jpeg(bytes: &[u8]) -> Decoded<Image> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(LONGEST_SIDE as usize)
        .set_max_height(LONGEST_SIDE as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    check_size(width as u32, height as u32)?;
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    // The decoder fills what is missing with grey.
    match ends(bytes) {
        Some(()) => finish(Size { height, width }, pixels),
        None => Err("it is cut short".into()),
    }
}

/// Whether a JPEG file goes on until its end marker: segments, and compressed data, in which 0xFF stands before a 0 or
/// a restart marker.
fn ends(bytes: &[u8]) -> Option<()> {
    const END: u8 = 0xD9;
    const SCAN: u8 = 0xDA;
    let mut rest = bytes.get(2..)?;
    loop {
        rest = &rest[memchr::memchr(0xFF, rest)? + 1..];
        match *rest.first()? {
            END => return Some(()),
            // Fill bytes, stuffed zeros, restarts and other markers without a length.
            0xFF => continue,
            0 | 1 | 0xD0..=0xD8 => rest = &rest[1..],
            marker => {
                let length = u16::from_be_bytes([*rest.get(1)?, *rest.get(2)?]);
                // Of a scan's header, the compressed data follow; they are searched like what lies between segments.
                let skip = if marker == SCAN { 1 } else { 1 + usize::from(length) };
                rest = rest.get(skip..)?;
            }
        }
    }
}

/// Alpha dropped, greys repeated, of 16 bits the upper 8.
fn to_rgb(decoded: DynamicImage) -> Vec<u8> {
    let upper = |value: u16| (value >> 8) as u8;
    match decoded {
        DynamicImage::ImageLuma16(picture) => picture.iter().flat_map(|&value| [upper(value); 3]).collect(),
        DynamicImage::ImageLumaA16(picture) => picture.pixels().flat_map(|pixel| [upper(pixel[0]); 3]).collect(),
        DynamicImage::ImageRgb16(picture) => picture.iter().map(|&value| upper(value)).collect(),
        DynamicImage::ImageRgba16(picture) => picture.pixels().flat_map(|p| [p[0], p[1], p[2]].map(upper)).collect(),
        other => other.into_rgb8().into_raw(),
    }
}
