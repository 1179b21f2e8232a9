//! Decoding of image files to 8-bit RGB.

use std::io::{BufRead, Cursor, Read, Seek};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::formats;
use crate::guard::guarded;
use crate::image::{Examined, Image, LONGEST_SIDE, MOST_MEMORY, Size, Transparency};
use crate::reading::{Background, ReadOptions};
use crate::{Error, Result};

mod gif;
mod jpeg;

/// Upper limit of an image's pixels: its channels and a decoder's working memory of the same size fit [`MOST_MEMORY`].
const MOST_PIXELS: u64 = MOST_MEMORY / 6;

/// Error of a file on which a decoder panics.
const DAMAGED: &str = "it is damaged";

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
        Self::decode_with(bytes, key, ReadOptions::default())
    }

    /// Decodes a file, as [`decode`](Self::decode) does but for `options`: the image may be rotated and flipped according
    /// to its EXIF orientation, and transparent pixels be blended with a background.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    pub fn decode_with(bytes: &[u8], key: &str, options: ReadOptions) -> Result<Self> {
        let decoded = guarded(DAMAGED, || match options.apply_orientation {
            true => oriented(bytes, options.background),
            false => image(bytes, options.background),
        });
        decoded.map_err(|reason| Error::Image { key: key.to_owned(), reason })
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
        guarded(DAMAGED, || Ok(examine(bytes))).ok().flatten()
    }
}

/// Decodes a file; EXIF orientation is ignored.
fn image(bytes: &[u8], background: Background) -> Decoded<Image> {
    match format(bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes),
        Some(ImageFormat::Gif) => gif::first_frame(bytes, background),
        Some(_) => other(bytes, background),
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
fn examine(bytes: &[u8]) -> Option<Examined> {
    let format = format(bytes)?;
    let doubts = if format == ImageFormat::Jpeg { jpeg::doubts(bytes) } else { Vec::new() };
    Some(Examined { format: name(format)?, doubts, transparency: transparency(bytes, format) })
}

/// Transparency of an encoded image; `None` without transparent pixels, and if it does not decode.
fn transparency(bytes: &[u8], format: ImageFormat) -> Option<Transparency> {
    let has_alpha = match format {
        ImageFormat::Jpeg => false,
        ImageFormat::Gif => true,
        _ => reader(Cursor::new(bytes)).ok()?.into_decoder().ok()?.color_type().has_alpha(),
    };
    if !has_alpha {
        return None;
    }
    let on = |background| image(bytes, Background(background)).ok();
    let (black, white, dropped) = (on(Some([0; 3]))?, on(Some([255; 3]))?, on(None)?);
    let constant = dropped.pixels().chunks_exact(3).all(|pixel| pixel == &dropped.pixels()[..3]);
    (black != white).then_some(if constant { Transparency::OneColor } else { Transparency::Partial })
}

/// Decodes a file in one of the formats without a module of their own here.
fn other(bytes: &[u8], background: Background) -> Decoded<Image> {
    let decoder = reader(Cursor::new(bytes))?.into_decoder().map_err(in_words)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(unread_tiff("floating-point samples"));
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(in_words)?;
    let size = Size { height: decoded.height() as usize, width: decoded.width() as usize };
    match background.0.filter(|_| decoded.color().has_alpha()) {
        Some(color) => finish(size, blended(decoded, color)),
        None => finish(size, to_rgb(decoded)),
    }
}

/// Pixels over a background: `(α·value + (255 − α)·background)/255`, rounded.
fn blended(decoded: DynamicImage, background: [u8; 3]) -> Vec<u8> {
    let upper = |value: u16| (value >> 8) as u8;
    let over = |[red, green, blue, alpha]: [u8; 4]| {
        let alpha = u16::from(alpha);
        let blend = |(value, back): (u8, u8)| {
            let sum = alpha * u16::from(value) + (255 - alpha) * u16::from(back);
            ((u32::from(sum) + 127) / 255) as u8
        };
        [(red, background[0]), (green, background[1]), (blue, background[2])].map(blend)
    };
    match decoded {
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|p| over([upper(p[0]), upper(p[0]), upper(p[0]), upper(p[1])])).collect()
        }
        DynamicImage::ImageRgba16(image) => image.pixels().flat_map(|p| over(p.0.map(upper))).collect(),
        other => other.into_rgba8().pixels().flat_map(|p| over(p.0)).collect(),
    }
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
fn oriented(bytes: &[u8], background: Background) -> Decoded<Image> {
    let image = image(bytes, background)?;
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
pub(crate) fn size(source: impl BufRead + Seek) -> Decoded<Size> {
    guarded(DAMAGED, || size_in_header(source))
}

fn size_in_header(mut source: impl BufRead + Seek) -> Decoded<Size> {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use image::{Rgba, RgbaImage};

    use super::*;

    fn png(pixel: impl Fn(u32, u32) -> [u8; 4]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbaImage::from_fn(16, 4, |x, y| Rgba(pixel(x, y))).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn transparent_pixels_show_the_background_if_there_is_one() {
        let file = png(|x, _| [10, 100, 200, (x * 17) as u8]);
        let read = |background: &str| {
            let options = ReadOptions { background: background.parse().unwrap(), ..ReadOptions::default() };
            Image::decode_with(&file, "a.png", options).unwrap()
        };
        let dropped = read("");
        assert!(dropped.pixels().chunks_exact(3).all(|pixel| pixel == [10, 100, 200]));
        assert_eq!(dropped, Image::decode(&file, "a.png").unwrap());
        for (background, back) in [("white", [255.0; 3]), ("black", [0.0; 3]), ("#20c0ff", [32.0, 192.0, 255.0])] {
            let blended = read(background);
            for (x, pixel) in blended.pixels().chunks_exact(3).take(16).enumerate() {
                for (c, value) in [10.0, 100.0, 200.0].into_iter().enumerate() {
                    let alpha = x as f64 * 17.0 / 255.0;
                    let wanted = alpha * value + (1.0 - alpha) * back[c];
                    assert!((f64::from(pixel[c]) - wanted).abs() <= 0.5, "{background} {x} {c}: {} {wanted}", pixel[c]);
                }
            }
        }
    }

    #[test]
    fn a_palette_that_breaks_off_in_a_color_is_an_error() {
        let chunk = |name: &[u8; 4], content: &[u8]| {
            let checksum = crc32fast::hash(&[&name[..], content].concat()).to_be_bytes();
            [&(content.len() as u32).to_be_bytes()[..], name, content, &checksum].concat()
        };
        let file = |palette: &[u8]| {
            let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            pixels.write_all(&[0, 0b0101_0000, 0, 0b1010_0000]).unwrap();
            let pixels = pixels.finish().unwrap();
            let header = [0, 0, 0, 4, 0, 0, 0, 2, 1, 3, 0, 0, 0];
            let chunks = [chunk(b"IHDR", &header), chunk(b"PLTE", palette), chunk(b"tRNS", &[9])];
            [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat(), &chunk(b"IDAT", &pixels), &chunk(b"IEND", &[])].concat()
        };
        let whole = Image::decode(&file(&[1, 2, 3, 4, 5, 6]), "a.png").unwrap();
        assert_eq!(whole.pixels()[..6], [1, 2, 3, 4, 5, 6]);
        let broken = file(&[1, 2, 3, 4, 5]);
        let error = Image::decode(&broken, "a.png").unwrap_err().to_string();
        assert!(error.contains("a.png") && error.contains("it is damaged"), "{error}");
        Image::examine(&broken);
        assert_eq!(Image::decode_size(&broken, "a.png").unwrap(), Size { height: 2, width: 4 });
    }

    #[test]
    fn transparency_is_found_and_images_of_one_color_are_named() {
        let transparency = |pixel: fn(u32, u32) -> [u8; 4]| Image::examine(&png(pixel)).unwrap().transparency;
        assert_eq!(transparency(|x, _| [0, 0, 0, (x * 16) as u8]), Some(Transparency::OneColor));
        assert_eq!(transparency(|x, y| [y as u8, 0, 0, (x * 16) as u8]), Some(Transparency::Partial));
        assert_eq!(transparency(|x, y| [y as u8, x as u8, 0, 255]), None);
        assert_eq!(transparency(|_, _| [7, 7, 7, 255]), None);
    }
}
