//! The file layout before PyTorch 1.6: consecutive pickles, followed by the storages.

use std::collections::HashMap;

use super::element;
use super::fault::{Fault, Read, not_read};
use super::object::{Object, Pickle, Value};
use super::pickle;

/// PyTorch's magic number, as encoded by pickle protocol 2 and later.
const MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
/// The same number in the decimal digits of protocol 1.
const DIGITS: &[u8] = b"L119547037146038801333356L\n";
/// Number of bytes within which the magic number ends, after the protocol and a frame.
const WITHIN: usize = 64;

/// Whether a file begins with PyTorch's magic number.
pub fn begins(beginning: &[u8]) -> bool {
    let beginning = &beginning[..beginning.len().min(WITHIN)];
    beginning.starts_with(DIGITS) || memchr::memmem::find(beginning, MAGIC).is_some_and(|place| place <= 11)
}

/// Root object of a file, and its storages by name.
///
/// # Errors
///
/// If the file is truncated, damaged or not supported.
pub fn read(bytes: &[u8]) -> Read<(Pickle<'_>, HashMap<&str, &[u8]>)> {
    let mut rest = bytes;
    let mut next = || -> Read<Pickle<'_>> {
        let read = pickle::read(rest)?;
        rest = &rest[read.length..];
        Ok(read)
    };
    let (_magic, version) = (next()?, next()?);
    if version.root != Value::Int(1001) {
        return not_read("its layout has a version that is not known");
    }
    let (_machine, saved, keys) = (next()?, next()?, next()?);
    let Some(Object::List(keys)) = keys.object(keys.root) else { return not_read("it has no list of storages") };
    let sizes = element_sizes(&saved);
    let mut storages = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else { return not_read("a storage has no name") };
        let Some(size) = sizes.get(key) else { return not_read(format!("storage {key} has an unknown type")) };
        let cut = || Fault::Truncated(format!("storage {key} is not whole"));
        let (count, after) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = u64::from_le_bytes(*count).checked_mul(*size).and_then(|length| usize::try_from(length).ok());
        let (storage, after) = length.and_then(|length| after.split_at_checked(length)).ok_or_else(cut)?;
        storages.insert(*key, storage);
        rest = after;
    }
    Ok((saved, storages))
}

/// Element size of each storage, in bytes.
fn element_sizes<'a>(saved: &Pickle<'a>) -> HashMap<&'a str, u64> {
    let mut sizes = HashMap::new();
    for object in saved.objects() {
        let Object::Outside(id) = object else { continue };
        let Some([_, class, Value::Text(key), ..]) = saved.tuple(*id) else { continue };
        let Some((_, class)) = saved.global(*class) else { continue };
        let size = match class {
            "UntypedStorage" | "_UntypedStorage" => Some(1),
            typed => element::of_storage(typed).map(|element| element.size as u64),
        };
        if let Some(size) = size {
            sizes.insert(*key, size);
        }
    }
    sizes
}
