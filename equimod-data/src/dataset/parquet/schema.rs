//! Which column is what.

use bytes::Bytes;
use parquet::basic::Repetition;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Read, broken};
use crate::dataset::Task;

/// Names of the picture column where the metadata name none.
const USUAL: [&str; 2] = ["image", "img"];

/// The columns that are read.
pub(super) struct Columns {
    pub picture: String,
    pub tasks: Vec<Task>,
    root: String,
    fields: Vec<TypePtr>,
}

impl Columns {
    /// The columns of a table; `wanted` names the picture column.
    pub fn of<R: ChunkReader + 'static>(reader: &SerializedFileReader<R>, wanted: Option<&str>) -> Read<Self> {
        let metadata = reader.metadata().file_metadata();
        let root = metadata.schema_descr().root_schema();
        let fields = root.get_fields().to_vec();
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        let described = metadata.key_value_metadata().into_iter().flatten();
        let features =
            features(described.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref()));
        let pictured = features.iter().find(|(_, f)| f.get("_type").and_then(Value::as_str) == Some("Image"));
        let known = pictured.map(|(name, _)| name.as_str()).filter(|name| names.contains(name));
        let usual = || USUAL.into_iter().find(|name| names.contains(name));
        let picture = match wanted {
            Some(wanted) => names.iter().copied().find(|name| *name == wanted),
            None => known.or_else(usual),
        };
        let picture = picture.ok_or_else(|| {
            let missing = wanted.unwrap_or(USUAL[0]);
            format!("it has no column called {missing}; it has {}", names.join(", "))
        })?;
        if fields.iter().any(|field| field.name() == picture && repeated(field)) {
            return Err(format!("its column {picture} holds lists, not one picture a row"));
        }
        let mut tasks = tasks(&features);
        tasks.retain(|task| names.contains(&task.name.as_str()));
        Ok(Self { picture: picture.into(), tasks, root: root.name().into(), fields: fields.clone() })
    }

    /// What is read: labels and texts, and the pictures if they are wanted.
    pub fn projection(&self, pictures: bool) -> std::result::Result<Type, ParquetError> {
        let fields = self.fields.iter().filter(|field| {
            let readable = (field.is_primitive() && !repeated(field)) || field.name() == self.picture;
            readable && (pictures || field.name() != self.picture)
        });
        self.group(fields.cloned().collect())
    }

    /// The pictures alone.
    pub fn pictures(&self) -> std::result::Result<Type, ParquetError> {
        self.group(self.fields.iter().filter(|field| field.name() == self.picture).cloned().collect())
    }

    fn group(&self, fields: Vec<TypePtr>) -> std::result::Result<Type, ParquetError> {
        Type::group_type_builder(&self.root).with_fields(fields).build()
    }

    /// Bytes of the picture column, unpacked.
    pub fn picture_bytes<R: ChunkReader + 'static>(&self, reader: &SerializedFileReader<R>) -> u64 {
        self.picture_bytes_of(reader.metadata().row_groups())
    }

    /// Bytes of the picture column in some row groups, unpacked.
    pub fn picture_bytes_of(&self, groups: &[RowGroupMetaData]) -> u64 {
        let columns = groups.iter().flat_map(|group| group.columns());
        let of_pictures = columns.filter(|column| column.column_path().parts().first() == Some(&self.picture));
        of_pictures.map(|column| u64::try_from(column.uncompressed_size()).unwrap_or(0)).sum()
    }
}

/// Whether a row may hold any number of values of a column.
fn repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    let within = || field.is_group() && field.get_fields().iter().any(|field| repeated(field));
    (info.has_repetition() && info.repetition() == Repetition::REPEATED) || within()
}

/// Opens a table: its metadata are read, no column leads out of it, and it has no more rows than bytes.
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
    if !groups.iter().flat_map(|group| group.columns()).all(|column| inside(column).is_some()) {
        return Err("its metadata are damaged: a column leads out of the file".into());
    }
    let rows = groups.iter().try_fold(0_u64, |sum, group| sum.checked_add(u64::try_from(group.num_rows()).ok()?));
    match rows {
        Some(rows) if rows <= length => Ok(reader),
        _ => Err("its metadata are damaged: it claims more rows than it can hold".into()),
    }
}

/// Of the schema and of every column chunk's place, length and number of values.
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

/// The columns as the Hub's `datasets` library describes them.
fn features(metadata: Option<&str>) -> Map<String, Value> {
    metadata
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .and_then(|value| value.pointer("/info/features").and_then(Value::as_object).cloned())
        .unwrap_or_default()
}

/// The label columns: those with names of classes.
fn tasks(features: &Map<String, Value>) -> Vec<Task> {
    let classes = |feature: &Value| -> Option<Vec<String>> {
        feature.get("names")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    features.iter().filter_map(|(name, f)| Some(Task { name: name.clone(), classes: classes(f)? })).collect()
}

/// The encoded picture in a field: bytes, or a struct with a field of that name; empty where there is none. The page that
/// it was read from is shared, not copied.
pub(super) fn picture(field: &Field) -> Option<Bytes> {
    match field {
        Field::Null => Some(Bytes::new()),
        Field::Bytes(bytes) => Some(Bytes::from_owner(bytes.clone())),
        Field::Group(row) => row.get_column_iter().find(|(name, _)| *name == "bytes").and_then(|(_, f)| picture(f)),
        _ => None,
    }
}
