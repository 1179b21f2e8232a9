//! Decoding of image files to 8-bit RGB.

use std::io::{BufRead, Cursor, Read, Seek};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::formats;
use crate::image::{Examined, Image, LONGEST_SIDE, MOST_MEMORY, Size};
use crate::{Error, Result};

mod gif;
mod jpeg;

/// Upper limit of an image's pixels: its channels and a decoder's working memory of the same size fit [`MOST_MEMORY`].
const MOST_PIXELS: u64 = MOST_MEMORY / 6;

type Decoded<T> = std::result::Result<T, String>;

impl Image {
    /// Decodes a file (BMP, GIF, JPEG, PNG, TIFF, WebP, recognized by its content) as Pillow's `convert("RGB")` does.
    ///
    /// Alpha is dropped, palettes and CMYK are converted, 16-bit values are reduced to their upper 8 bits, and only the
    /// first frame or page is decoded. EXIF orientation is ignored. `key` names the image in errors.
    ///
    /// # Errors
    ///
    /// If the format is not supported, the file is damaged, or the image is too large.
    pub fn decode(bytes: &[u8], key: &str) -> Result<Self> {
        image(bytes).map_err(|reason| Error::Image { key: key.to_owned(), reason })
    }

    /// Decodes a file, then rotates and flips the image according to its EXIF orientation.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    pub fn decode_oriented(bytes: &[u8], key: &str) -> Result<Self> {
        oriented(bytes).map_err(|reason| Error::Image { key: key.to_owned(), reason })
    }

    /// Size of an encoded image, from its header; EXIF orientation is ignored.
    ///
    /// # Errors
    ///
    /// If the format is not supported, or the header is damaged.
    pub fn decode_size(bytes: &[u8], key: &str) -> Result<Size> {
        size(Cursor::new(bytes)).map_err(|reason| Error::Image { key: key.to_owned(), reason })
    }

    /// Checks an encoded image for errors that decoding ignores; this decodes it once more. `None` if its format is not
    /// supported.
    pub fn examine(bytes: &[u8]) -> Option<Examined> {
        examine(bytes)
    }
}

/// Decodes a file; EXIF orientation is ignored.
pub(crate) fn image(bytes: &[u8]) -> Decoded<Image> {
    match format(bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes),
        Some(ImageFormat::Gif) => gif::first_frame(bytes),
        Some(_) => other(bytes),
        None => Err(formats::what_else(bytes)),
    }
}

/// Format of a file by its first bytes, if it is supported.
fn format(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(|format| name(*format).is_some())
}

/// Name of a supported format.
fn name(format: ImageFormat) -> Option<&'static str> {
    Some(match format {
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        _ => return None,
    })
}

/// Format of an encoded image, and the errors in it that decoding ignores.
pub(crate) fn examine(bytes: &[u8]) -> Option<Examined> {
    let format = format(bytes)?;
    let doubts = if format == ImageFormat::Jpeg { jpeg::doubts(bytes) } else { Vec::new() };
    Some(Examined { format: name(format)?, doubts })
}

/// Decodes a file in one of the formats without a module of their own here.
fn other(bytes: &[u8]) -> Decoded<Image> {
    let decoder = reader(Cursor::new(bytes))?.into_decoder().map_err(in_words)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(unread_tiff("floating-point samples"));
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(in_words)?;
    let size = Size { height: decoded.height() as usize, width: decoded.width() as usize };
    finish(size, to_rgb(decoded))
}

/// Error of a decoder, as a clause.
fn in_words(error: ImageError) -> String {
    match &error {
        ImageError::Unsupported(what) if what.format_hint().to_string().contains("Tiff") => {
            unread_tiff(&error.to_string())
        }
        _ => error.to_string(),
    }
}

fn unread_tiff(kind: &str) -> String {
    format!("it is a TIFF of a kind that is not read ({kind}); convert it to PNG")
}

/// Decodes a file, then rotates and flips the image according to its EXIF orientation.
pub(crate) fn oriented(bytes: &[u8]) -> Decoded<Image> {
    let image = image(bytes)?;
    let orientation = orientation(bytes).map_err(|e| e.to_string())?;
    if orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    let (height, width) = (image.size().height as u32, image.size().width as u32);
    let buffer = image::RgbImage::from_raw(width, height, image.into_pixels()).ok_or("its size overflows")?;
    let mut rotated = DynamicImage::ImageRgb8(buffer);
    rotated.apply_orientation(orientation);
    finish(Size { height: rotated.height() as usize, width: rotated.width() as usize }, rotated.into_rgb8().into_raw())
}

/// Orientation in a file's EXIF data. Some programs write JPEG's prefix before the data in other formats, too.
fn orientation(bytes: &[u8]) -> image::ImageResult<Orientation> {
    const PREFIX: &[u8] = b"Exif\0\0";
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    match decoder.exif_metadata()? {
        Some(exif) => {
            let exif = exif.strip_prefix(PREFIX).unwrap_or(&exif);
            Ok(Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms))
        }
        // A TIFF file has the orientation among its regular tags.
        None => decoder.orientation(),
    }
}

/// Size in a file's header; EXIF orientation is ignored.
pub(crate) fn size(mut source: impl BufRead + Seek) -> Decoded<Size> {
    let read = |e: std::io::Error| e.to_string();
    let reader = reader(&mut source)?;
    let format = reader.format();
    let (width, height) = match format.filter(|format| name(*format).is_some()) {
        Some(ImageFormat::Gif) => {
            source.rewind().map_err(read)?;
            return gif::size(source);
        }
        Some(_) => match reader.into_dimensions() {
            Ok(size) => size,
            Err(error) => return Err(why_not(source, format).unwrap_or_else(|| in_words(error))),
        },
        None => return Err(why_not(source, None).unwrap_or_else(|| "it cannot be read".into())),
    };
    check_size(width, height)?;
    Ok(Size { height: height as usize, width: width as usize })
}

/// Reason why a file is not supported, if its content shows one.
fn why_not(mut source: impl BufRead + Seek, format: Option<ImageFormat>) -> Option<String> {
    let mut bytes = Vec::new();
    source.rewind().and_then(|()| source.take(MOST_MEMORY).read_to_end(&mut bytes)).ok()?;
    match format {
        None => Some(formats::what_else(&bytes)),
        Some(ImageFormat::Jpeg) => jpeg::Survey::of(&bytes).not_read(),
        Some(_) => None,
    }
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

/// Converts to RGB: drops alpha, repeats grays, and keeps the upper 8 of 16 bits.
fn to_rgb(decoded: DynamicImage) -> Vec<u8> {
    let upper = |value: u16| (value >> 8) as u8;
    match decoded {
        DynamicImage::ImageLuma16(image) => image.iter().flat_map(|&value| [upper(value); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|pixel| [upper(pixel[0]); 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.iter().map(|&value| upper(value)).collect(),
        DynamicImage::ImageRgba16(image) => image.pixels().flat_map(|p| [p[0], p[1], p[2]].map(upper)).collect(),
        other => other.into_rgb8().into_raw(),
    }
}
