//! Checks of a table's schema, which run before the parquet crate reads it: the crate allocates memory for the declared
//! number of columns, and recurses into each nested group.

use parquet::file::reader::ChunkReader;

use super::thrift::{NESTED, field, kind, list, skip};
use super::wire::Wire;
use super::{Read, broken};

/// Largest nesting depth of groups in a schema.
const DEEPEST: usize = 64;

/// Kinds of the fields of `FileMetaData`, in order.
const METADATA: [u8; 7] = [kind::I32, kind::LIST, kind::I64, kind::LIST, kind::LIST, kind::BINARY, kind::LIST];
const SCHEMA: i64 = 2;

/// Kinds of the fields of `SchemaElement`, in order.
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

/// Rejects a table with an invalid schema.
pub(super) fn check<R: ChunkReader>(source: &R) -> Read<()> {
    // If there is no footer, the parquet crate reports the problem.
    let Some((start, length)) = place(source)? else { return Ok(()) };
    let footer = source.get_bytes(start, length).map_err(broken)?;
    sound(&footer).ok_or_else(|| "it is truncated or not a parquet file (its schema is damaged)".into())
}

/// Position of the footer; its length and four magic bytes end the file.
fn place<R: ChunkReader>(source: &R) -> Read<Option<(u64, usize)>> {
    let Some(end) = source.len().checked_sub(8) else { return Ok(None) };
    let tail = source.get_bytes(end, 8).map_err(broken)?;
    let (Some(length), Some(b"PAR1")) = (tail.first_chunk().map(|b| u32::from_le_bytes(*b)), tail.get(4..)) else {
        return Ok(None);
    };
    Ok(end.checked_sub(u64::from(length)).map(|start| (start, length as usize)))
}

/// Reads all fields of the footer.
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

/// Reads the elements of a tree, each before its children.
fn schema(wire: &mut Wire) -> Option<()> {
    let (elements, of) = list(wire)?;
    (elements == 0 || of == kind::STRUCT).then_some(())?;
    // Numbers of children that the groups around the next element still lack, never 0.
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

/// Number of children of an element.
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

/// Checks that a known field has the kind that the format defines.
fn expected(kinds: &[u8], id: i64, kind: u8) -> Option<()> {
    let known = usize::try_from(id).ok()?.checked_sub(1).and_then(|place| kinds.get(place));
    known.is_none_or(|known| *known == kind).then_some(())
}
