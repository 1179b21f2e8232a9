//! Structures in Thrift's compact protocol; only the required fields are parsed.

use super::wire::Wire;

/// Largest nesting depth of structures that are skipped.
pub(super) const NESTED: usize = 64;

/// Kinds of fields in Thrift's compact protocol.
pub(super) mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const STRUCT: u8 = 12;
}

/// Number and kind of the next field; `Some(None)` at the end of the structure.
pub(super) fn field(wire: &mut Wire, last: i64) -> Option<Option<(i64, u8)>> {
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

/// Length of a list, and kind of its elements.
pub(super) fn list(wire: &mut Wire) -> Option<(usize, u8)> {
    let header = wire.byte()?;
    let length = match header >> 4 {
        15 => wire.count()?,
        length => usize::from(length),
    };
    // Every element takes at least one byte.
    (length <= wire.0.len()).then_some((length, header & 15))
}

/// Skips a value with up to `depth` levels of nested structures.
pub(super) fn skip(wire: &mut Wire, kind: u8, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match kind {
        // The field's header contains the value of a boolean.
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
