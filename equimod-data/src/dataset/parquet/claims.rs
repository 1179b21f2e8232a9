//! Checks of the uncompressed sizes that page headers declare.
//!
//! They run before the parquet crate allocates memory: the crate trusts the size in a page's header, and decompresses
//! GZIP, BROTLI and LZ4 frames until they end.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

use super::thrift::{NESTED, field, kind, skip};
use super::wire::Wire;
use super::{Read, broken};

/// Upper limits of the number of bytes to which one byte can decompress. In Snappy, a copy of 64 bytes takes 3. In LZ4,
/// a longer match takes one byte for each 255. In DEFLATE, a match of 258 bytes takes two bits. In Zstandard, a block
/// of 128 KiB takes four bytes.
const SNAPPY: u64 = 22;
const LZ4: u64 = 255;
const DEFLATE: u64 = 1032;
const ZSTD: u64 = 32_768;
/// Lowest seven bits of a brotli stream with a window above the 16 MiB of RFC 7932, up to 1 GiB, which the decoder
/// would allocate. The Parquet format has no such streams.
const LARGE_WINDOW: u8 = 0b001_0001;
/// Size that any page may declare.
const FREE: u64 = 1 << 20;
/// First bytes of an LZ4 frame, which some writers use where the format has none.
const LZ4_FRAME: [u8; 4] = [4, 34, 77, 24];
/// Largest ratio of a column chunk's uncompressed size to its length, whatever the footer declares.
const WHOLE: u64 = 32;
/// Number of bytes of a header that are read first; statistics in it may make it longer.
const HEADER: usize = 512;
/// Type of pages that the parquet crate skips.
const INDEX_PAGE: i64 = 1;

/// Rejects a column with an unsupported codec.
pub(super) fn readable(chunk: &ColumnChunkMetaData) -> Read<()> {
    match chunk.compression() {
        Compression::LZO => Err(format!(
            "its column {} is compressed with LZO, which is not read; write the table with SNAPPY, GZIP, BROTLI, LZ4 \
             or ZSTD",
            chunk.column_path().string()
        )),
        _ => Ok(()),
    }
}

/// Declared sizes of a column chunk's pages.
pub(super) struct Claims<R> {
    source: Arc<R>,
    codec: Compression,
    /// Offsets of the next page, and of the end of the last page.
    at: u64,
    end: u64,
    /// Number of bytes to which the remaining pages may decompress.
    left: u64,
}

/// Sizes that a page's header declares.
struct Claim {
    /// Length of the header in bytes.
    header: usize,
    kind: i64,
    /// Number of bytes after the header, compressed and uncompressed.
    packed: u64,
    unpacked: u64,
    /// Number of bytes of levels, which are not compressed.
    levels: u64,
    is_packed: bool,
}

impl<R: ChunkReader> Claims<R> {
    pub fn new(source: Arc<R>, chunk: &ColumnChunkMetaData) -> Self {
        let (at, length) = chunk.byte_range();
        let claimed = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
        let left = claimed.max(length.saturating_mul(WHOLE)).saturating_add(FREE);
        Self { source, codec: chunk.compression(), at, end: at.saturating_add(length), left }
    }

    /// Checks the next page.
    pub fn next(&mut self) -> Read<()> {
        if self.codec == Compression::UNCOMPRESSED {
            return Ok(());
        }
        while self.at < self.end {
            let claim = self.claim()?;
            let packed = self.at + claim.header as u64;
            self.at = packed.saturating_add(claim.packed);
            if claim.kind != INDEX_PAGE {
                return self.check(&claim, packed);
            }
        }
        Ok(())
    }

    /// Reads the header of the next page.
    fn claim(&self) -> Read<Claim> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let mut length = HEADER.min(left);
        loop {
            let bytes = self.source.get_bytes(self.at, length).map_err(broken)?;
            match header(&bytes) {
                Some(claim) if claim.packed <= self.end - self.at - claim.header as u64 => return Ok(claim),
                Some(_) => return Err("a page leads out of its column".into()),
                None if length == left => return Err("the header of a page is damaged".into()),
                None => length = length.saturating_mul(8).min(left),
            }
        }
    }

    fn check(&mut self, claim: &Claim, start: u64) -> Read<()> {
        let wrong = || format!("a page claims {} bytes, which it does not hold", claim.unpacked);
        self.left = self.left.checked_sub(claim.unpacked).ok_or_else(wrong)?;
        let (Some(packed), Some(unpacked)) =
            (claim.packed.checked_sub(claim.levels), claim.unpacked.checked_sub(claim.levels))
        else {
            return Err(wrong());
        };
        if !claim.is_packed || unpacked == 0 {
            return Ok(());
        }
        let times = |most: u64| unpacked <= packed.saturating_mul(most).saturating_add(FREE);
        let bytes = || self.source.get_bytes(start + claim.levels, packed as usize).map_err(broken);
        let fine = match self.codec {
            Compression::SNAPPY => times(SNAPPY),
            Compression::GZIP(_) => {
                times(DEFLATE) && unpacks_to(flate2::read::MultiGzDecoder::new(&*bytes()?), unpacked)
            }
            Compression::BROTLI(_) => brotli(&bytes()?, unpacked),
            Compression::LZ4_RAW => times(LZ4),
            Compression::LZ4 => times(LZ4) && lz4(&bytes()?, unpacked),
            Compression::ZSTD(_) => times(WHOLE) || zstd(&bytes()?).is_some_and(|most| unpacked <= most),
            Compression::LZO | Compression::UNCOMPRESSED => true,
        };
        if fine { Ok(()) } else { Err(wrong()) }
    }
}

/// Sizes in a page's header; `None` if it is damaged or incomplete.
fn header(bytes: &[u8]) -> Option<Claim> {
    let mut wire = Wire(bytes);
    let mut claim = Claim { header: 0, kind: 0, packed: 0, unpacked: 0, levels: 0, is_packed: true };
    let mut last = 0;
    while let Some((id, of)) = field(&mut wire, last)? {
        match (id, of) {
            (1, kind::I32) => claim.kind = wire.signed()?,
            (2, kind::I32) => claim.unpacked = u64::try_from(wire.signed()?).ok()?,
            (3, kind::I32) => claim.packed = u64::try_from(wire.signed()?).ok()?,
            (8, kind::STRUCT) => second_version(&mut wire, &mut claim)?,
            _ => skip(&mut wire, of, NESTED)?,
        }
        last = id;
    }
    claim.header = bytes.len() - wire.0.len();
    Some(claim)
}

/// Header of a data page in version 2 of the format: levels are not compressed, and values need not be.
fn second_version(wire: &mut Wire, claim: &mut Claim) -> Option<()> {
    let mut last = 0;
    while let Some((id, of)) = field(wire, last)? {
        match (id, of) {
            (5 | 6, kind::I32) => claim.levels = claim.levels.checked_add(u64::try_from(wire.signed()?).ok()?)?,
            (7, kind::TRUE) => claim.is_packed = true,
            (7, kind::FALSE) => claim.is_packed = false,
            _ => skip(wire, of, NESTED)?,
        }
        last = id;
    }
    Some(())
}

/// Whether a stream contains exactly this number of bytes; they are not stored.
fn unpacks_to(stream: impl io::Read, bytes: u64) -> bool {
    io::copy(&mut io::Read::take(stream, bytes.saturating_add(1)), &mut io::sink()).is_ok_and(|held| held == bytes)
}

fn brotli(packed: &Bytes, unpacked: u64) -> bool {
    let large = packed.first().is_some_and(|first| first & 0x7f == LARGE_WINDOW);
    !large && unpacks_to(brotli::Decompressor::new(&**packed, 1 << 12), unpacked)
}

/// Hadoop's blocks and bare blocks end with the declared size; a frame defines its own end.
fn lz4(packed: &Bytes, unpacked: u64) -> bool {
    !packed.starts_with(&LZ4_FRAME) || unpacks_to(lz4_flex::frame::FrameDecoder::new(&**packed), unpacked)
}

/// Upper limit of the number of bytes to which Zstandard frames decompress.
fn zstd(mut frames: &[u8]) -> Option<u64> {
    let mut most = 0u64;
    while !frames.is_empty() {
        let length = find_frame_compressed_size(frames).ok().filter(|length| *length > 0)?;
        let held = get_frame_content_size(frames).ok().flatten().unwrap_or(ZSTD.saturating_mul(length as u64));
        most = most.saturating_add(held);
        frames = frames.get(length..)?;
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4096 zeros as a brotli stream.
    fn stream(large_window: bool, lgwin: i32) -> Bytes {
        let mut packed = Vec::new();
        let settings = brotli::enc::BrotliEncoderParams { large_window, lgwin, ..Default::default() };
        brotli::BrotliCompress(&mut [0; 4096].as_slice(), &mut packed, &settings).unwrap();
        packed.into()
    }

    #[test]
    fn brotli_windows_are_those_of_the_standard() {
        for lgwin in 10..=24 {
            assert!(brotli(&stream(false, lgwin), 4096), "{lgwin}");
        }
        let large = stream(true, 28);
        assert!(unpacks_to(brotli::Decompressor::new(&*large, 1 << 12), 4096));
        assert!(!brotli(&large, 4096));
    }
}
