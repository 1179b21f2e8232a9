//! A table's schema, looked at before the parquet crate reads it: that one makes room for as many columns as a group
//! claims, and calls itself for each group within a group.

use parquet::file::reader::ChunkReader;

use super::thrift::{NESTED, field, kind, list, skip};
use super::wire::Wire;
use super::{Read, broken};

/// Groups within groups that a schema may have.
const DEEPEST: usize = 64;

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
