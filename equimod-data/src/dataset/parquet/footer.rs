//! A table's schema, looked at before the parquet crate reads it: that one makes room for as many columns as a group
//! claims, and calls itself for each group within a group.

use parquet::file::reader::ChunkReader;

use super::wire::Wire;
use super::{Read, broken};

/// Groups within groups that a schema may have.
const DEEPEST: usize = 64;

/// Structures within structures that are skipped.
const NESTED: usize = 64;

/// Kinds of fields in Thrift's compact protocol.
mod kind {
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const STRUCT: u8 = 12;
}

/// Fields of `FileMetaData`, from the first.
const METADATA: [u8; 7] = [kind::I32, kind::LIST, kind::I64, kind::LIST, kind::LIST, kind::BINARY, kind::LIST];
const SCHEMA: i64 = 2;

/// Fields of `SchemaElement`, from the first.
const ELEMENT: [u8; 10] = [
    kind::I32,
    kind::I32,
    kind::I32,
    kind::BINARY,
    kind::I32,
    kind::I32,
    kind::I32,
    kind::I32,
    kind::I32,
    kind::STRUCT,
];
const CHILDREN: i64 = 5;

/// Refuses a table whose schema no writer makes.
pub(super) fn check<R: ChunkReader>(source: &R) -> Read<()> {
    // Where no footer is found, the parquet crate tells what is amiss.
    let Some((start, length)) = place(source)? else { return Ok(()) };
    let footer = source.get_bytes(start, length).map_err(broken)?;
    sound(&footer).ok_or_else(|| "it is truncated or not a parquet file (its schema is damaged)".into())
}

/// Where the footer lies: its length and four letters end the file.
fn place<R: ChunkReader>(source: &R) -> Read<Option<(u64, usize)>> {
    let Some(end) = source.len().checked_sub(8) else { return Ok(None) };
    let tail = source.get_bytes(end, 8).map_err(broken)?;
    let (Some(length), Some(b"PAR1")) = (tail.first_chunk().map(|b| u32::from_le_bytes(*b)), tail.get(4..)) else {
        return Ok(None);
    };
    Ok(end.checked_sub(u64::from(length)).map(|start| (start, length as usize)))
}

/// Reads through the footer's fields.
fn sound(footer: &[u8]) -> Option<()> {
    let mut wire = Wire(footer);
    let mut last = 0;
    while let Some((id, kind)) = field(&mut wire, last)? {
        expected(&METADATA, id, kind)?;
        match id {
            SCHEMA => schema(&mut wire)?,
            _ => skip(&mut wire, kind, NESTED)?,
        }
        last = id;
    }
    Some(())
}

/// A tree's elements, each before its children.
fn schema(wire: &mut Wire) -> Option<()> {
    let (elements, of) = list(wire)?;
    (elements == 0 || of == kind::STRUCT).then_some(())?;
    // Children that the groups around the next element still miss, never 0.
    let mut missing: Vec<usize> = Vec::new();
    for _ in 0..elements {
        if let Some(around) = missing.last_mut() {
            *around -= 1;
        }
        let children = element(wire)?;
        if children > elements {
            return None;
        }
        missing.push(children);
        while missing.last() == Some(&0) {
            missing.pop();
        }
        if missing.len() > DEEPEST {
            return None;
        }
    }
    Some(())
}

/// An element's number of children.
fn element(wire: &mut Wire) -> Option<usize> {
    let (mut last, mut children) = (0, 0);
    while let Some((id, kind)) = field(wire, last)? {
        expected(&ELEMENT, id, kind)?;
        match id {
            CHILDREN => children = usize::try_from(wire.signed()?).ok()?,
            _ => skip(wire, kind, NESTED)?,
        }
        last = id;
    }
    Some(children)
}

/// A known field has the kind that the format gives it.
fn expected(kinds: &[u8], id: i64, kind: u8) -> Option<()> {
    let known = usize::try_from(id).ok()?.checked_sub(1).and_then(|place| kinds.get(place));
    known.is_none_or(|known| *known == kind).then_some(())
}

/// The next field's number and kind; `Some(None)` where the structure ends.
fn field(wire: &mut Wire, last: i64) -> Option<Option<(i64, u8)>> {
    let header = wire.byte()?;
    if header & 15 == 0 {
        return Some(None);
    }
    let id = match header >> 4 {
        0 => wire.signed()?,
        step => last.checked_add(i64::from(step))?,
    };
    Some(Some((id, header & 15)))
}

/// A list's length and the kind of its elements.
fn list(wire: &mut Wire) -> Option<(usize, u8)> {
    let header = wire.byte()?;
    let length = match header >> 4 {
        15 => wire.count()?,
        length => usize::from(length),
    };
    // Every element takes a byte at least.
    (length <= wire.0.len()).then_some((length, header & 15))
}

/// Skips a value; `depth` structures may lie in one another.
fn skip(wire: &mut Wire, kind: u8, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match kind {
        // A boolean's value is in its field's header.
        1 | 2 => Some(()),
        3 => wire.skip(1),
        4..=6 => wire.unsigned().map(drop),
        7 => wire.skip(8),
        kind::BINARY => {
            let length = wire.count()?;
            wire.skip(length)
        }
        kind::LIST | 10 => {
            let (length, of) = list(wire)?;
            // In lists, a boolean is a byte.
            let of = if of <= 2 { 3 } else { of };
            (0..length).try_for_each(|_| skip(wire, of, depth))
        }
        11 => {
            let length = wire.count().filter(|length| *length <= wire.0.len())?;
            let kinds = if length > 0 { wire.byte()? } else { 0 };
            let each = |wire: &mut Wire, kind: u8| skip(wire, if kind <= 2 { 3 } else { kind }, depth);
            (0..length).try_for_each(|_| each(wire, kinds >> 4).and_then(|()| each(wire, kinds & 15)))
        }
        kind::STRUCT => {
            let mut last = 0;
            while let Some((id, kind)) = field(wire, last)? {
                skip(wire, kind, depth)?;
                last = id;
            }
            Some(())
        }
        13 => wire.skip(16),
        _ => None,
    }
}
