//! Parquet tables in the Hugging Face layout: a picture column of encoded bytes, label columns whose class names stand
//! in the schema's metadata, and columns of text.

mod footer;
mod groups;
mod pages;
mod schema;
mod wire;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use sha2::{Digest, Sha256};

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};
use groups::{Groups, Kept};
use pages::Checked;
use schema::{Columns, picture};

/// Tables whose pictures together take no more than this many bytes are held in memory; of others, so many bytes of row
/// groups, as they are needed.
const HELD_BYTES: u64 = 1 << 30;

/// Rows of a table.
pub struct ParquetDataset {
    name: String,
    pictures: Pictures,
    tasks: Vec<Task>,
    labels: Vec<Vec<Option<u32>>>,
    texts: BTreeMap<String, Vec<Option<String>>>,
    notice: Option<String>,
    fingerprint: String,
    oriented: bool,
}

/// Where the encoded pictures are.
enum Pictures {
    Held(Vec<bytes::Bytes>),
    Grouped(Groups),
}

type Read<T> = std::result::Result<T, String>;

fn broken(error: parquet::errors::ParquetError) -> String {
    format!("it is truncated or not a parquet file ({error})")
}

/// The parquet crate is not made for damaged schemas and pages: where it panics, they are.
fn guarded<T>(read: impl FnOnce() -> Read<T>) -> Read<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("it is damaged; fetch it again".into()))
}

impl ParquetDataset {
    /// Reads a table from a file; `column` names the pictures' column (told by the metadata, or `image` or `img`, if
    /// nothing is said).
    pub fn open(path: &Path, column: Option<&str>) -> Result<Self> {
        let mut tables = Self::open_all(&[path.to_owned()], column)?;
        tables.pop().ok_or_else(|| Error::Config("no table was asked for".into()))
    }

    /// Reads several tables, as [`open`](Self::open); what of them is held in memory does not grow with their number.
    pub fn open_all(paths: &[PathBuf], column: Option<&str>) -> Result<Vec<Self>> {
        Self::open_within(paths, column, HELD_BYTES)
    }

    /// As [`open_all`](Self::open_all), holding at most `held` bytes of pictures.
    fn open_within(paths: &[PathBuf], column: Option<&str>, held: u64) -> Result<Vec<Self>> {
        let frame = |path: &PathBuf| -> Read<(SerializedFileReader<File>, Columns)> {
            let reader = schema::open(File::open(path).map_err(|e| format!("it cannot be read: {e}"))?)?;
            let columns = Columns::of(&reader, column)?;
            Ok((reader, columns))
        };
        let told = |path: &Path, reason: String| Error::data_set(path.display().to_string(), reason);
        let mut tables = Vec::with_capacity(paths.len());
        for path in paths {
            tables.push(guarded(|| frame(path)).map_err(|reason| told(path, reason))?);
        }
        let bytes = tables.iter().map(|(reader, columns)| columns.picture_bytes(reader)).fold(0, u64::saturating_add);
        if bytes <= held {
            let whole = |path: &PathBuf| {
                let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
                Self::from_bytes(&path.display().to_string(), bytes.into(), column)
            };
            return paths.iter().map(whole).collect();
        }
        let kept = Kept::new(held);
        let mut grouped = Vec::with_capacity(paths.len());
        for (number, (path, (reader, columns))) in paths.iter().zip(tables).enumerate() {
            let name = path.display().to_string();
            let table = guarded(|| Self::grouped(&name, reader, columns, (kept.clone(), number)));
            grouped.push(table.map_err(|reason| told(path, reason))?);
        }
        Ok(grouped)
    }

    /// A table whose pictures stay in its file.
    fn grouped(
        name: &str,
        reader: SerializedFileReader<File>,
        columns: Columns,
        (kept, number): (Arc<Kept>, usize),
    ) -> Read<Self> {
        let mut table = Self::empty(name, &columns, schema::fingerprint(&reader));
        table.read(&reader, &columns, false)?;
        table.pictures = Pictures::Grouped(Groups::new(reader, columns, kept, number)?);
        Ok(table)
    }

    /// Reads a table from memory.
    pub fn from_bytes(name: &str, bytes: bytes::Bytes, column: Option<&str>) -> Result<Self> {
        let fingerprint = crate::hexadecimal(&Sha256::digest(&bytes));
        let read = || -> Read<Self> {
            let reader = schema::open(bytes)?;
            let columns = Columns::of(&reader, column)?;
            let mut table = Self::empty(name, &columns, fingerprint);
            table.read(&reader, &columns, true)?;
            Ok(table)
        };
        guarded(read).map_err(|reason| Error::data_set(name, reason))
    }

    fn empty(name: &str, columns: &Columns, fingerprint: String) -> Self {
        Self {
            name: name.into(),
            pictures: Pictures::Held(Vec::new()),
            tasks: columns.tasks.clone(),
            labels: vec![Vec::new(); columns.tasks.len()],
            texts: BTreeMap::new(),
            notice: None,
            fingerprint,
            oriented: false,
        }
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

    /// Reads every row, with or without its picture.
    fn read<R: ChunkReader + 'static>(
        &mut self,
        reader: &SerializedFileReader<R>,
        columns: &Columns,
        pictures: bool,
    ) -> Read<()> {
        let projection = columns.projection(pictures).map_err(broken)?;
        let mut rows = 0;
        for group in 0..reader.num_row_groups() {
            let group = Checked(reader.get_row_group(group).map_err(broken)?);
            for row in RowIter::from_row_group(Some(projection.clone()), &group).map_err(broken)? {
                self.push(&row.map_err(broken)?, columns).map_err(|e| format!("row {rows}: {e}"))?;
                rows += 1;
            }
        }
        let held = matches!(&self.pictures, Pictures::Held(held) if held.len() == rows);
        match (rows, pictures && !held) {
            (0, _) if pictures => Err("it holds no pictures".into()),
            (_, true) => Err("some of its rows have no picture".into()),
            _ => Ok(()),
        }
    }

    fn push(&mut self, row: &Row, columns: &Columns) -> Read<()> {
        for (name, field) in row.get_column_iter() {
            if *name == columns.picture {
                let bytes = picture(field).ok_or("its picture is neither bytes nor a struct with bytes")?;
                if let Pictures::Held(held) = &mut self.pictures {
                    held.push(bytes);
                }
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

    /// The encoded picture in a row.
    fn with_bytes<T>(&self, index: usize, decode: impl FnOnce(&[u8], &str) -> Result<T>) -> Result<T> {
        let key = self.key(index);
        let decode = |bytes: &[u8], key: &str| match bytes.is_empty() {
            true => Err(Error::Picture {
                key: key.into(),
                reason: "its row holds no bytes (a path alone is not followed)".into(),
            }),
            false => decode(bytes, key),
        };
        let missing = || Error::data_set(&self.name, format!("it has no picture {index}"));
        match &self.pictures {
            Pictures::Held(held) => decode(held.get(index).ok_or_else(missing)?, &key),
            Pictures::Grouped(groups) => {
                let (group, place) = groups.locate(index).ok_or_else(missing)?;
                let group = guarded(|| groups.load(group)).map_err(|reason| Error::data_set(&self.name, reason))?;
                decode(group.get(place).ok_or_else(missing)?, &key)
            }
        }
    }
}

/// A null, and −1, mean: not part of the task.
fn label(field: &Field, classes: usize) -> Read<Option<u32>> {
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
        match &self.pictures {
            Pictures::Held(held) => held.len(),
            Pictures::Grouped(groups) => groups.rows(),
        }
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.with_bytes(index, |bytes, key| match self.oriented {
            true => Image::decode_oriented(bytes, key),
            false => Image::decode(bytes, key),
        })
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.with_bytes(index, |bytes, _| Ok(Some(bytes.to_vec())))
    }

    fn size(&self, index: usize) -> Result<Size> {
        if self.oriented {
            return Ok(self.image(index)?.size());
        }
        self.with_bytes(index, Image::decode_size)
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

    /// Of the file; of its metadata where it is too large to be held.
    fn fingerprint(&self) -> Result<String> {
        Ok(self.fingerprint.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_too_large_to_be_held_reads_the_same() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/emoji/noto-test.parquet");
        let held = ParquetDataset::open(&path, None).unwrap();
        // Two tables that share the room of less than one group.
        let grouped = ParquetDataset::open_within(&[path.clone(), path], Some("image"), 1000).unwrap().pop().unwrap();
        assert!(matches!(grouped.pictures, Pictures::Grouped(_)));
        assert_eq!((grouped.len(), grouped.tasks()), (held.len(), held.tasks()));
        for index in [0, 1, 300, held.len() - 1] {
            assert_eq!(grouped.image(index).unwrap(), held.image(index).unwrap());
            assert_eq!(grouped.label(1, index), held.label(1, index));
            assert_eq!(grouped.text("name", index), held.text("name", index));
        }
        assert!(grouped.image(held.len()).is_err());
        assert_ne!(grouped.fingerprint().unwrap(), held.fingerprint().unwrap());
    }

    #[test]
    fn a_column_that_is_not_there_is_told_with_those_that_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/emoji/noto-test.parquet");
        let text = ParquetDataset::open(&path, Some("photo")).err().unwrap().to_string();
        assert!(text.contains("no column called photo; it has image"), "{text}");
        let text = ParquetDataset::open(&path, Some("name")).err().unwrap().to_string();
        assert!(text.contains("neither bytes"), "{text}");
    }
}
