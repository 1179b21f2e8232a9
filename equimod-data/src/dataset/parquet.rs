//! Parquet tables in the Hugging Face layout: a picture column of encoded bytes, label columns whose class names stand
//! in the schema's metadata, and columns of text.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Rows of a table; the encoded pictures are held in memory.
pub struct ParquetDataset {
    name: String,
    pictures: Vec<Vec<u8>>,
    tasks: Vec<Task>,
    labels: Vec<Vec<Option<u32>>>,
    texts: BTreeMap<String, Vec<Option<String>>>,
    notice: Option<String>,
    fingerprint: String,
    oriented: bool,
}

impl ParquetDataset {
    /// Reads a table from a file.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(&path.display().to_string(), bytes.into())
    }

    /// Reads a table from memory.
    pub fn from_bytes(name: &str, bytes: bytes::Bytes) -> Result<Self> {
        let fingerprint = crate::hexadecimal(&Sha256::digest(&bytes));
        let mut table = Self {
            name: name.into(),
            pictures: Vec::new(),
            tasks: Vec::new(),
            labels: Vec::new(),
            texts: BTreeMap::new(),
            notice: None,
            fingerprint,
            oriented: false,
        };
        table.read(bytes).map_err(|reason| Error::data_set(name, reason))?;
        Ok(table)
    }

    /// The same table with the licence notice of its pictures.
    pub fn with_notice(mut self, notice: &str) -> Self {
        self.notice = Some(notice.into());
        self
    }

    /// The same table with pictures turned as their EXIF orientation says, if `oriented`.
    pub fn oriented(mut self, oriented: bool) -> Self {
        self.oriented = oriented;
        self
    }

    fn read(&mut self, bytes: impl ChunkReader + 'static) -> std::result::Result<(), String> {
        let broken = |e: parquet::errors::ParquetError| format!("it is truncated or not a parquet file ({e})");
        let reader = SerializedFileReader::new(bytes).map_err(broken)?;
        let metadata = reader.metadata().file_metadata();
        let columns: Vec<String> =
            metadata.schema_descr().root_schema().get_fields().iter().map(|f| f.name().to_owned()).collect();
        if !columns.iter().any(|name| name == "image") {
            return Err(format!("it has no column called image; it has {}", columns.join(", ")));
        }
        self.tasks =
            tasks(metadata.key_value_metadata().into_iter().flatten().find_map(|pair| match pair.key.as_str() {
                "huggingface" => pair.value.as_deref(),
                _ => None,
            }));
        self.tasks.retain(|task| columns.contains(&task.name));
        self.labels = vec![Vec::new(); self.tasks.len()];
        for (index, row) in reader.get_row_iter(None).map_err(broken)?.enumerate() {
            self.push(&row.map_err(broken)?).map_err(|e| format!("row {index}: {e}"))?;
        }
        match self.pictures.is_empty() {
            true => Err("it holds no pictures".into()),
            false => Ok(()),
        }
    }

    fn push(&mut self, row: &Row) -> std::result::Result<(), String> {
        for (name, field) in row.get_column_iter() {
            if name == "image" {
                self.pictures.push(picture(field).ok_or("its image is neither bytes nor a struct with bytes")?);
            } else if let Some(task) = self.tasks.iter().position(|task| task.name == *name) {
                let label = label(field, self.tasks[task].classes.len()).map_err(|e| format!("{name} is {e}"))?;
                self.labels[task].push(label);
            } else if let Field::Str(_) | Field::Null = field {
                let text = if let Field::Str(text) = field { Some(text.clone()) } else { None };
                self.texts.entry(name.clone()).or_default().push(text);
            }
        }
        Ok(())
    }

    fn bytes(&self, index: usize) -> Result<&[u8]> {
        let missing = || Error::data_set(&self.name, format!("it has no picture {index}"));
        self.pictures.get(index).map(Vec::as_slice).ok_or_else(missing)
    }
}

/// The label columns named in the metadata, in the order of names.
fn tasks(metadata: Option<&str>) -> Vec<Task> {
    let features = metadata
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .and_then(|value| value.pointer("/info/features").and_then(Value::as_object).cloned())
        .unwrap_or_default();
    let classes = |feature: &Value| -> Option<Vec<String>> {
        feature.get("names")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    features.iter().filter_map(|(name, f)| Some(Task { name: name.clone(), classes: classes(f)? })).collect()
}

fn picture(field: &Field) -> Option<Vec<u8>> {
    match field {
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        Field::Group(row) => row.get_column_iter().find(|(name, _)| *name == "bytes").and_then(|(_, f)| picture(f)),
        _ => None,
    }
}

/// A null, and −1, mean: not part of the task.
fn label(field: &Field, classes: usize) -> std::result::Result<Option<u32>, String> {
    let value = match *field {
        Field::Null => return Ok(None),
        Field::Byte(v) => i64::from(v),
        Field::Short(v) => i64::from(v),
        Field::Int(v) => i64::from(v),
        Field::Long(v) => v,
        Field::UByte(v) => i64::from(v),
        Field::UShort(v) => i64::from(v),
        Field::UInt(v) => i64::from(v),
        _ => return Err("not a whole number".into()),
    };
    match u32::try_from(value) {
        Ok(label) if (label as usize) < classes => Ok(Some(label)),
        _ if value == -1 => Ok(None),
        _ => Err(format!("{value}, but there are {classes} classes")),
    }
}

impl Dataset for ParquetDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        let (bytes, key) = (self.bytes(index)?, self.key(index));
        if self.oriented { Image::decode_oriented(bytes, &key) } else { Image::decode(bytes, &key) }
    }

    fn size(&self, index: usize) -> Result<Size> {
        if self.oriented {
            return Ok(self.image(index)?.size());
        }
        Image::decode_size(self.bytes(index)?, &self.key(index))
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        *self.labels.get(task)?.get(index)?
    }

    fn text(&self, column: &str, index: usize) -> Option<&str> {
        self.texts.get(column)?.get(index)?.as_deref()
    }

    fn key(&self, index: usize) -> String {
        format!("{}, row {index}", self.name)
    }

    fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    fn fingerprint(&self) -> Result<String> {
        Ok(self.fingerprint.clone())
    }
}
