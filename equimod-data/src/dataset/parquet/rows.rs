//! Rows of a table: labels, plain values and, if requested, images.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

use super::pages::Checked;
use super::schema::Columns;
use super::{Read, broken};
use crate::dataset::values::{Column, ColumnBuilder};

/// Data that is kept of the rows.
#[derive(Default)]
pub(super) struct Rows {
    /// Encoded images, if requested.
    pub images: Vec<Bytes>,
    /// Labels of all rows, one vector per task.
    pub labels: Vec<Vec<Option<u32>>>,
    /// Plain values by the name of their column.
    pub columns: BTreeMap<String, Column>,
}

impl Rows {
    /// Reads every row of `reader`, which reads from `source`.
    pub fn read<R: ChunkReader + 'static>(
        reader: &SerializedFileReader<R>,
        source: &Arc<R>,
        columns: &Columns,
        images: bool,
    ) -> Read<Self> {
        let projection = columns.projection(images).map_err(broken)?;
        let mut rows = Self { labels: vec![Vec::new(); columns.tasks.len()], ..Self::default() };
        let mut plain = BTreeMap::new();
        let mut count = 0;
        for group in 0..reader.num_row_groups() {
            let group = Checked { group: reader.get_row_group(group).map_err(broken)?, source: source.clone() };
            for row in RowIter::from_row_group(Some(projection.clone()), &group).map_err(broken)? {
                let row = row.map_err(broken)?;
                rows.push(&row, columns, &mut plain).map_err(|e| format!("row {count}: {e}"))?;
                count += 1;
            }
        }
        rows.columns =
            plain.into_iter().map(|(name, column): (String, ColumnBuilder)| (name, column.finish())).collect();
        match (count, images && rows.images.len() != count) {
            (0, _) if images => Err("it holds no images".into()),
            (_, true) => Err("some of its rows have no image".into()),
            _ => Ok(rows),
        }
    }

    fn push(&mut self, row: &Row, columns: &Columns, plain: &mut BTreeMap<String, ColumnBuilder>) -> Read<()> {
        for (name, field) in row.get_column_iter() {
            if *name == columns.image[0] {
                let bytes = columns.image_in(field);
                self.images.push(bytes.ok_or("its image is neither bytes nor a structure with bytes")?);
            } else if let Some(task) = columns.tasks.iter().position(|task| task.name == *name) {
                let classes = columns.tasks[task].classes.len();
                self.labels[task].push(label(field, classes).map_err(|e| format!("{name} is {e}"))?);
            } else {
                let column = match plain.get_mut(name) {
                    Some(column) => column,
                    None => plain.entry(name.clone()).or_default(),
                };
                column.push(value(field).as_deref());
            }
        }
        Ok(())
    }
}

/// An integer.
fn whole(field: &Field) -> Option<i128> {
    match *field {
        Field::Byte(v) => Some(v.into()),
        Field::Short(v) => Some(v.into()),
        Field::Int(v) => Some(v.into()),
        Field::Long(v) => Some(v.into()),
        Field::UByte(v) => Some(v.into()),
        Field::UShort(v) => Some(v.into()),
        Field::UInt(v) => Some(v.into()),
        Field::ULong(v) => Some(v.into()),
        _ => None,
    }
}

/// A string, an integer or a boolean, as text.
fn value(field: &Field) -> Option<Cow<'_, str>> {
    match field {
        Field::Str(text) => Some(text.as_str().into()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok().map(Into::into),
        Field::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
        field => whole(field).map(|number| number.to_string().into()),
    }
}

/// Label of a row; a null or −1 means that the image is not part of the task.
fn label(field: &Field, classes: usize) -> Read<Option<u32>> {
    if let Field::Null = field {
        return Ok(None);
    }
    let value = whole(field).ok_or("not an integer")?;
    match u32::try_from(value) {
        Ok(label) if (label as usize) < classes => Ok(Some(label)),
        _ if value == -1 => Ok(None),
        _ => Err(format!("{value}, but there are {classes} classes")),
    }
}
