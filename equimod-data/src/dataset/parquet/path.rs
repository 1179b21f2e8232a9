//! Location of the images in a table: a column, or a field of a structure in it.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type, TypePtr};

use super::Read;
use crate::dataset::values::listed;

/// Number of names that an error lists.
const LISTED: usize = 12;

/// Names that lead to the image: a column called `wanted`, or fields within a structure, joined by dots.
pub(super) fn find(fields: &[TypePtr], wanted: &str) -> Read<Vec<String>> {
    let column = |name: &str| fields.iter().find(|field| field.name() == name);
    let (names, field) = match (column(wanted), wanted.split_once('.')) {
        (Some(field), _) => (vec![wanted.to_owned()], field),
        (None, Some((first, rest))) if column(first).is_some_and(|field| within(field, rest).is_some()) => {
            let names = wanted.split('.').map(str::to_owned).collect();
            (names, column(first).and_then(|field| within(field, rest)).ok_or("there is no such field")?)
        }
        _ => return Err(missing(fields, wanted)),
    };
    check(fields, &names, field)?;
    Ok(names)
}

/// Field at the end of a path of names joined by dots.
fn within<'a>(field: &'a TypePtr, path: &str) -> Option<&'a TypePtr> {
    path.split('.').try_fold(field, |field, name| {
        let fields = if field.is_group() { field.get_fields() } else { &[] };
        fields.iter().find(|field| field.name() == name)
    })
}

/// Rejects a field that does not contain one image per row.
fn check(fields: &[TypePtr], names: &[String], field: &TypePtr) -> Read<()> {
    let name = names.join(".");
    let mut along = fields.iter().find(|field| field.name() == names[0]);
    for name in &names[1..] {
        if along.is_some_and(|field| is_repeated(field)) {
            break;
        }
        along = along.and_then(|field| within(field, name));
    }
    if along.is_some_and(|field| repeated(field)) {
        return Err(format!(
            "its column {name} holds lists, not one image a row; write a table with one row for each image"
        ));
    }
    if field.is_primitive() {
        let binary = [Physical::BYTE_ARRAY, Physical::FIXED_LEN_BYTE_ARRAY].contains(&field.get_physical_type());
        let holds = match binary {
            true if !is_text(field) => return Ok(()),
            true => "texts (paths and addresses are not followed)",
            false => "numbers",
        };
        return Err(format!(
            "its column {name} holds {holds}, neither bytes nor structures with bytes{}",
            hint(fields)
        ));
    }
    let parts = field.get_fields();
    if parts.iter().any(|field| field.name() == "bytes" && holds_bytes(field)) {
        return Ok(());
    }
    let parts = listed(parts.iter().map(|field| field.name()), LISTED);
    Err(format!("its column {name} is a structure of {parts}, without a field of bytes{}", hint(fields)))
}

fn missing(fields: &[TypePtr], wanted: &str) -> String {
    let names = listed(fields.iter().map(|field| field.name()), LISTED);
    format!("it has no column called {wanted}; it has {names}{}", hint(fields))
}

/// Hint with the paths that may lead to images.
fn hint(fields: &[TypePtr]) -> String {
    let (mut single, mut lists) = (Vec::new(), Vec::new());
    fields.iter().for_each(|field| candidates(field, "", false, &mut single, &mut lists));
    let mut text = String::new();
    if let Some(first) = single.first() {
        text += &format!(
            "; bytes are in {}: put # and the name behind the source, as in #{first}",
            listed(&single, LISTED)
        );
    }
    if !lists.is_empty() {
        text += &format!("; {} holds lists of bytes, of which none is chosen", listed(&lists, LISTED));
    }
    text
}

fn candidates(field: &TypePtr, before: &str, in_list: bool, single: &mut Vec<String>, lists: &mut Vec<String>) {
    let (name, in_list) = (format!("{before}{}", field.name()), in_list || is_repeated(field));
    let found = if in_list { &mut *lists } else { &mut *single };
    if holds_bytes(field) {
        found.push(name);
    } else if field.is_group() {
        match field.get_fields().iter().any(|field| field.name() == "bytes" && holds_bytes(field)) {
            true => found.push(name),
            false => field.get_fields().iter().for_each(|f| candidates(f, &format!("{name}."), in_list, single, lists)),
        }
    }
}

fn holds_bytes(field: &Type) -> bool {
    field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY && !is_text(field)
}

/// Whether a column contains strings.
pub(super) fn is_text(field: &Type) -> bool {
    let info = field.get_basic_info();
    let kind = info.logical_type_ref();
    field.is_primitive()
        && field.get_physical_type() == Physical::BYTE_ARRAY
        && ([ConvertedType::UTF8, ConvertedType::ENUM, ConvertedType::JSON].contains(&info.converted_type())
            || kind.is_some_and(|kind| matches!(kind, LogicalType::String | LogicalType::Enum | LogicalType::Json)))
}

fn is_repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

/// Whether a row may contain any number of values of a column.
pub(super) fn repeated(field: &Type) -> bool {
    is_repeated(field) || (field.is_group() && field.get_fields().iter().any(|field| repeated(field)))
}

/// The column restricted to the field at the end of a path, with all its children.
pub(super) fn only(field: &TypePtr, path: &[String]) -> Result<TypePtr, ParquetError> {
    let Some((name, path)) = path.split_first() else { return Ok(field.clone()) };
    let inside = field.get_fields().iter().filter(|field| field.name() == name);
    let inside = inside.map(|field| only(field, path)).collect::<Result<Vec<_>, _>>()?;
    let info = field.get_basic_info();
    let group = Type::group_type_builder(field.name()).with_repetition(info.repetition()).with_fields(inside);
    group.build().map(Arc::new)
}
