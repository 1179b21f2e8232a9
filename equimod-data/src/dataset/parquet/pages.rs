//! Row groups whose pages are checked before they are decoded, because the parquet crate allocates memory for the
//! declared number of values.

use std::sync::Arc;

use parquet::basic::{Encoding, Type};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, RowGroupReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::{ColumnDescPtr, Type as SchemaType};

use super::claims::Claims;
use super::wire::Wire;

/// A row group whose pages declare neither a larger uncompressed size nor more values than they can contain, nor more
/// values than rows: none of the columns that are read contain lists.
pub(super) struct Checked<'a, R> {
    pub group: Box<dyn RowGroupReader + 'a>,
    /// Bytes of the file with the group.
    pub source: Arc<R>,
}

impl<R: ChunkReader + 'static> RowGroupReader for Checked<'_, R> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group.metadata()
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, index: usize) -> Result<Box<dyn PageReader>> {
        let chunk = self.metadata().column(index);
        let claims = Claims::new(self.source.clone(), chunk);
        let column = chunk.column_descr_ptr();
        let left = usize::try_from(self.metadata().num_rows())?;
        Ok(Box::new(CheckedPages { pages: self.group.get_column_page_reader(index)?, claims, column, left }))
    }

    fn get_column_bloom_filter(&self, index: usize) -> Option<&Sbbf> {
        self.group.get_column_bloom_filter(index)
    }

    fn get_row_iter(&self, projection: Option<SchemaType>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Pages of a column in a row group.
struct CheckedPages<R> {
    pages: Box<dyn PageReader>,
    claims: Claims<R>,
    column: ColumnDescPtr,
    /// Number of values that the remaining pages may contain.
    left: usize,
}

impl<R> CheckedPages<R> {
    fn check(&mut self, page: &Page) -> Option<()> {
        let values = page.num_values() as usize;
        if let Page::DictionaryPage { buf, .. } = page {
            return (values <= most_plain(&self.column, buf.len())).then_some(());
        }
        self.left = self.left.checked_sub(values)?;
        let (encoded, encoding) = values_of(page, &self.column)?;
        let mut wire = Wire(encoded);
        match encoding {
            Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => delta(&mut wire, values),
            // Lengths of the prefix shared with the previous value, then lengths of the suffixes.
            Encoding::DELTA_BYTE_ARRAY => {
                skip_deltas(&mut wire, values)?;
                delta(&mut wire, values)
            }
            _ => Some(()),
        }
    }
}

impl<R: ChunkReader> PageReader for CheckedPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let column = self.column.clone();
        let wrong = |reason: &str| ParquetError::General(format!("{}: {reason}", column.path().string()));
        self.claims.next().map_err(|reason| wrong(&reason))?;
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        let fine = self.check(&page);
        fine.ok_or_else(|| wrong("a page claims values that it lacks"))?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(drop)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl<R: ChunkReader> Iterator for CheckedPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// Upper limit of the number of plain values in `bytes` bytes.
fn most_plain(column: &ColumnDescPtr, bytes: usize) -> usize {
    match column.physical_type() {
        Type::BOOLEAN => bytes.saturating_mul(8),
        Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => bytes / 4,
        Type::INT64 | Type::DOUBLE => bytes / 8,
        Type::INT96 => bytes / 12,
        Type::FIXED_LEN_BYTE_ARRAY => bytes / usize::try_from(column.type_length()).unwrap_or(0).max(1),
    }
}

/// Values of a data page, without the levels before them.
fn values_of<'a>(page: &'a Page, column: &ColumnDescPtr) -> Option<(&'a [u8], Encoding)> {
    match page {
        Page::DataPage { buf, encoding, def_level_encoding, num_values, .. } => {
            let mut wire = Wire(buf);
            skip_levels(&mut wire, column.max_def_level(), *def_level_encoding, *num_values as usize)?;
            Some((wire.0, *encoding))
        }
        Page::DataPageV2 { buf, encoding, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let levels = def_levels_byte_len.checked_add(*rep_levels_byte_len)?;
            Some((buf.get(levels as usize..)?, *encoding))
        }
        Page::DictionaryPage { .. } => None,
    }
}

/// Skips the levels in a page of version 1 of the format: their length precedes them, or each has a fixed number of
/// bits.
#[expect(deprecated, reason = "old files hold bit-packed levels")]
fn skip_levels(wire: &mut Wire, most: i16, encoding: Encoding, values: usize) -> Option<()> {
    if most == 0 {
        return Some(());
    }
    let bytes = match encoding {
        Encoding::BIT_PACKED => values.checked_mul((i16::BITS - most.leading_zeros()) as usize)?.div_ceil(8),
        _ => {
            let length = u32::from_le_bytes(*wire.0.first_chunk()?);
            wire.skip(4)?;
            length as usize
        }
    };
    wire.skip(bytes)
}

/// Header of delta-encoded numbers: `(values per block, miniblocks per block, number of values)`.
fn delta_head(wire: &mut Wire, most: usize) -> Option<(usize, usize, usize)> {
    let (block, parts, numbers) = (wire.count()?, wire.count()?, wire.count()?);
    wire.signed()?;
    (numbers <= most && parts > 0 && block % parts == 0).then_some((block, parts, numbers))
}

fn delta(wire: &mut Wire, most: usize) -> Option<()> {
    delta_head(wire, most).map(drop)
}

/// Skips delta-encoded numbers: the first is in the header, then blocks of differences, whose miniblocks have bit
/// widths of their own.
fn skip_deltas(wire: &mut Wire, most: usize) -> Option<()> {
    let (block, parts, numbers) = delta_head(wire, most)?;
    let part = block / parts;
    let mut left = numbers.saturating_sub(1);
    while left > 0 {
        wire.signed()?;
        let widths = wire.0.get(..parts)?;
        wire.skip(parts)?;
        for width in widths {
            if left == 0 {
                break;
            }
            wire.skip(usize::from(*width).checked_mul(part)?.div_ceil(8))?;
            left = left.saturating_sub(part);
        }
        (part > 0).then_some(())?;
    }
    Some(())
}
