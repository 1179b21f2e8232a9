//! Roles of a table's columns.

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::path::{find, only, repeated};
use super::{Read, broken};
use crate::dataset::Task;

/// Names of the image column if the metadata name none.
const USUAL: [&str; 2] = ["image", "img"];

/// Columns that are read.
pub(super) struct Columns {
    /// Path of the image column: its name, then the fields that lead to the image if it is a structure.
    pub image: Vec<String>,
    pub tasks: Vec<Task>,
    root: String,
    fields: Vec<TypePtr>,
}

impl Columns {
    /// Finds the columns of a table; `wanted` names the image column, or the path to the image, such as `sample.image`.
    pub fn of<R: ChunkReader + 'static>(reader: &SerializedFileReader<R>, wanted: Option<&str>) -> Read<Self> {
        let metadata = reader.metadata().file_metadata();
        let root = metadata.schema_descr().root_schema();
        let fields = root.get_fields().to_vec();
        let there = |name: &str| fields.iter().any(|field| field.name() == name);
        let described = metadata.key_value_metadata().into_iter().flatten();
        let features =
            features(described.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref()));
        let declared = features.iter().find(|(_, f)| f.get("_type").and_then(Value::as_str) == Some("Image"));
        let known = declared.map(|(name, _)| name.as_str()).filter(|name| there(name));
        let usual = || USUAL.into_iter().find(|name| there(name));
        let image = find(&fields, wanted.or(known).or_else(usual).unwrap_or(USUAL[0]))?;
        let mut tasks = tasks(&features);
        tasks.retain(|task| there(&task.name));
        Ok(Self { image, tasks, root: root.name().into(), fields: fields.clone() })
    }

    /// Projection to the columns that are read: labels and plain values, and the images if requested.
    pub fn projection(&self, images: bool) -> std::result::Result<Type, ParquetError> {
        let task = |field: &TypePtr| self.tasks.iter().any(|task| task.name == field.name());
        let wanted = |field: &TypePtr| match field.name() == self.image[0] {
            true => images.then(|| only(field, &self.image[1..])),
            false => {
                (field.is_primitive() && !repeated(field) && (task(field) || plain(field))).then(|| Ok(field.clone()))
            }
        };
        self.group(self.fields.iter().filter_map(wanted).collect::<std::result::Result<_, _>>()?)
    }

    /// Projection to the images alone.
    pub fn images(&self) -> std::result::Result<Type, ParquetError> {
        let column = self.fields.iter().filter(|field| field.name() == self.image[0]);
        self.group(column.map(|field| only(field, &self.image[1..])).collect::<std::result::Result<_, _>>()?)
    }

    fn group(&self, fields: Vec<TypePtr>) -> std::result::Result<Type, ParquetError> {
        Type::group_type_builder(&self.root).with_fields(fields).build()
    }

    /// Uncompressed size of the image column in bytes.
    pub fn image_bytes<R: ChunkReader + 'static>(&self, reader: &SerializedFileReader<R>) -> u64 {
        self.image_bytes_of(reader.metadata().row_groups())
    }

    /// Uncompressed size of the image column in some row groups, in bytes.
    pub fn image_bytes_of(&self, groups: &[RowGroupMetaData]) -> u64 {
        let columns = groups.iter().flat_map(|group| group.columns());
        let of_images = columns.filter(|column| column.column_path().parts().first() == Some(&self.image[0]));
        of_images.map(|column| u64::try_from(column.uncompressed_size()).unwrap_or(0)).sum()
    }

    /// Encoded image in the field of the image column, which is bytes or a structure with a field of that name; empty
    /// if there is no image. It shares the memory of its page.
    pub fn image_in(&self, field: &Field) -> Option<Bytes> {
        follow(field, &self.image[1..])
    }
}

fn follow(field: &Field, path: &[String]) -> Option<Bytes> {
    let inside = |row: &parquet::record::Row, name: &str, path: &[String]| {
        row.get_column_iter().find(|(known, _)| *known == name).and_then(|(_, field)| follow(field, path))
    };
    match (field, path) {
        (Field::Null, _) => Some(Bytes::new()),
        (Field::Bytes(bytes), []) => Some(Bytes::from_owner(bytes.clone())),
        (Field::Group(row), [name, path @ ..]) => inside(row, name, path),
        (Field::Group(row), []) => inside(row, "bytes", &[]),
        _ => None,
    }
}

/// Whether a column contains strings, integers or booleans.
fn plain(field: &Type) -> bool {
    use ConvertedType::{INT_8, INT_16, INT_32, INT_64, NONE, UINT_8, UINT_16, UINT_32, UINT_64};
    let converted = field.get_basic_info().converted_type();
    match field.get_physical_type() {
        Physical::BOOLEAN => true,
        Physical::INT32 | Physical::INT64 => {
            let whole = [NONE, INT_8, INT_16, INT_32, INT_64, UINT_8, UINT_16, UINT_32, UINT_64].contains(&converted);
            let kind = field.get_basic_info().logical_type_ref();
            whole && kind.is_none_or(|kind| matches!(kind, LogicalType::Integer { .. }))
        }
        _ => super::path::is_text(field),
    }
}

/// Opens a table: reads its metadata, and checks that no column extends beyond the file and that it has no more rows
/// than bytes.
pub(super) fn open<R: ChunkReader + 'static>(source: R) -> Read<SerializedFileReader<R>> {
    let length = source.len();
    super::footer::check(&source)?;
    let reader = SerializedFileReader::new(source).map_err(broken)?;
    let inside = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = u64::try_from(start).ok()?.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
        let counts = column.num_values() >= 0 && column.uncompressed_size() >= 0;
        (counts && end <= length).then_some(())
    };
    let groups = reader.metadata().row_groups();
    groups.iter().flat_map(|group| group.columns()).try_for_each(super::claims::readable)?;
    if !groups.iter().flat_map(|group| group.columns()).all(|column| inside(column).is_some()) {
        return Err("its metadata are damaged: a column leads out of the file".into());
    }
    let rows = groups.iter().try_fold(0_u64, |sum, group| sum.checked_add(u64::try_from(group.num_rows()).ok()?));
    match rows {
        Some(rows) if rows <= length => Ok(reader),
        _ => Err("its metadata are damaged: it claims more rows than it can hold".into()),
    }
}

/// Hash of the schema and of every column chunk's position, length and number of values.
pub(super) fn fingerprint<R: ChunkReader + 'static>(reader: &SerializedFileReader<R>) -> String {
    let mut hash = Sha256::new();
    let metadata = reader.metadata();
    for pair in metadata.file_metadata().key_value_metadata().into_iter().flatten() {
        hash.update(format!("{}={:?}\n", pair.key, pair.value));
    }
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (start, length) = column.byte_range();
        hash.update(format!("{} {start} {length} {}\n", column.column_path().string(), column.num_values()));
    }
    crate::hexadecimal(&hash.finalize())
}

/// Column descriptions of the Hub's `datasets` library.
fn features(metadata: Option<&str>) -> Map<String, Value> {
    metadata
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .and_then(|value| value.pointer("/info/features").and_then(Value::as_object).cloned())
        .unwrap_or_default()
}

/// Label columns: those with class names.
fn tasks(features: &Map<String, Value>) -> Vec<Task> {
    let classes = |feature: &Value| -> Option<Vec<String>> {
        feature.get("names")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    features.iter().filter_map(|(name, f)| Some(Task { name: name.clone(), classes: classes(f)? })).collect()
}
