//! JPEG files: decoding, and a survey of their markers.

mod scan;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Decoded, check_size, finish};
use crate::image::{Image, LONGEST_SIDE, Size};

/// Decodes a file without an intermediate copy of the pixels.
pub fn decode(bytes: &[u8]) -> Decoded<Image> {
    let (size, pixels) = pixels(bytes, false).map_err(|reason| Survey::of(bytes).not_read().unwrap_or(reason))?;
    // The decoder fills missing data with gray.
    if Survey::of(bytes).complete { finish(size, pixels) } else { Err("it is cut short".into()) }
}

fn pixels(bytes: &[u8], strict: bool) -> Decoded<(Size, Vec<u8>)> {
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(LONGEST_SIDE as usize)
        .set_max_height(LONGEST_SIDE as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    check_size(width as u32, height as u32)?;
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    Ok((Size { height, width }, pixels))
}

/// Errors of a file that can be decoded nevertheless, each as a clause.
pub fn doubts(bytes: &[u8]) -> Vec<String> {
    let (survey, faults) = (Survey::of(bytes), scan::faults(bytes));
    let mut doubts = Vec::new();
    let mut doubt = |count: usize, one: &str, many: &str| match count {
        0 => {}
        1 => doubts.push(format!("one {one}")),
        count => doubts.push(format!("{count} {many}")),
    };
    doubt(survey.extraneous, "extraneous byte between segments", "extraneous bytes between segments");
    doubt(survey.misplaced_restarts, "restart marker out of order", "restart markers out of order");
    if let Some(faults) = faults {
        doubt(faults.extraneous, "extraneous byte after compressed data", "extraneous bytes after compressed data");
        doubt(faults.missing, "block missing or damaged", "blocks missing or damaged");
    }
    if let (true, Err(error)) = (doubts.is_empty(), pixels(bytes, true)) {
        doubts.push(format!("errors in its compressed data ({error})"));
    }
    doubts
}

/// Contents of a file according to its markers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Marker of the frame, and number of bits per sample.
    frame: Option<(u8, u8)>,
    /// Whether the file continues to its end marker.
    pub complete: bool,
    /// Number of bytes between segments that belong to none.
    extraneous: usize,
    /// Number of restart markers out of order or without a restart interval.
    misplaced_restarts: usize,
}

const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const RESTART_INTERVAL: u8 = 0xDD;

/// Expected kind of the next bytes.
#[derive(Clone, Copy)]
enum Place {
    BetweenSegments,
    /// Compressed data before the restart marker with this number.
    InScan(u8),
}

impl Survey {
    /// Surveys the segments and the compressed data, in which a 0 or a restart marker follows each 0xFF.
    pub fn of(bytes: &[u8]) -> Self {
        let mut survey = Self::default();
        survey.complete = survey.walk(bytes).is_some();
        survey
    }

    /// Surveys the bytes; `None` if the file ends before its end marker.
    fn walk(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes.get(2..)?;
        let (mut place, mut interval) = (Place::BetweenSegments, 0);
        loop {
            let gap = memchr::memchr(0xFF, rest)?;
            if let Place::BetweenSegments = place {
                self.extraneous += gap;
            }
            rest = &rest[gap + 1..];
            match *rest.first()? {
                END => return Some(()),
                // Fill byte.
                0xFF => continue,
                restart @ 0xD0..=0xD7 => {
                    rest = &rest[1..];
                    match &mut place {
                        Place::InScan(due) => {
                            let number = restart - 0xD0;
                            self.misplaced_restarts += usize::from(interval == 0 || number != *due);
                            *due = (number + 1) % 8;
                        }
                        Place::BetweenSegments => self.misplaced_restarts += 1,
                    }
                }
                // Stuffed zero, or another marker without a length.
                marker @ (0 | 1 | 0xD8) => {
                    if let (0, Place::BetweenSegments) = (marker, place) {
                        self.extraneous += 2;
                    }
                    rest = &rest[1..];
                }
                marker => {
                    let length = usize::from(u16::from_be_bytes([*rest.get(1)?, *rest.get(2)?]));
                    match marker {
                        RESTART_INTERVAL => interval = u16::from_be_bytes([*rest.get(3)?, *rest.get(4)?]),
                        0xC4 | 0xC8 | 0xCC => {}
                        0xC0..=0xCF => self.frame = self.frame.or(Some((marker, *rest.get(3)?))),
                        _ => {}
                    }
                    place = if marker == SCAN { Place::InScan(0) } else { Place::BetweenSegments };
                    rest = rest.get(1 + length..)?;
                }
            }
        }
    }

    /// Reason why an undamaged file of this kind is not supported, as a sentence; `None` if it is supported.
    pub fn not_read(&self) -> Option<String> {
        let (marker, bits) = self.frame?;
        let text = match marker {
            0xC9 | 0xCA | 0xCD | 0xCE => {
                "it is a JPEG with arithmetic coding, which is not read; save it with Huffman coding, \
                 as `jpegtran` does"
            }
            0xC3 | 0xC7 | 0xCB | 0xCF => "it is a lossless JPEG, which is not read; convert it to PNG",
            0xC5 | 0xC6 => "it is a hierarchical JPEG, which is not read; convert it to PNG",
            _ if bits != 8 => {
                return Some(format!("it is a JPEG of {bits} bits per sample, only 8 are read; convert it to PNG"));
            }
            _ => return None,
        };
        Some(text.into())
    }
}
