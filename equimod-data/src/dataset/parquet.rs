//! Parquet tables in the Hugging Face layout: an image column of encoded bytes, label columns with class names in the
//! schema's metadata, and columns of strings and integers.

mod claims;
mod footer;
mod groups;
mod pages;
mod path;
mod rows;
mod schema;
mod thrift;
mod wire;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::SerializedFileReader;
use sha2::{Digest, Sha256};

use super::values::Column;
use super::{Dataset, Task};
use crate::guard;
use crate::image::{Image, Size};
use crate::reading::ReadOptions;
use crate::{Error, Result};
use groups::{GroupCache, Groups};
use rows::Rows;
use schema::Columns;

/// Memory limit for encoded images in bytes. Tables whose images together fit it are held in memory; of larger tables,
/// row groups are loaded as needed, up to this limit.
const HELD_BYTES: u64 = 1 << 30;

/// Rows of a table.
pub struct ParquetDataset {
    name: String,
    images: Images,
    tasks: Vec<Task>,
    labels: Vec<Vec<Option<u32>>>,
    columns: BTreeMap<String, Column>,
    notice: Option<String>,
    fingerprint: String,
    options: ReadOptions,
}

/// Location of the encoded images.
enum Images {
    Held(Vec<bytes::Bytes>),
    Grouped(Groups),
}

type Read<T> = std::result::Result<T, String>;

fn broken(error: parquet::errors::ParquetError) -> String {
    format!("it is truncated or not a parquet file ({error})")
}

/// Runs code of the parquet crate; a panic in it is reported as damage.
fn guarded<T>(read: impl FnOnce() -> Read<T>) -> Read<T> {
    guard::guarded("it is damaged; fetch it again", read)
}

impl ParquetDataset {
    /// Reads a table from a file. `column` names the image column, or the path to a field in a structure
    /// (`sample.image`). By default, the column is the one that the metadata name, or `image`, or `img`.
    ///
    /// # Errors
    ///
    /// If the file is damaged, or has no such column of images.
    pub fn open(path: &Path, column: Option<&str>) -> Result<Self> {
        let mut tables = Self::open_all(&[path.to_owned()], column)?;
        tables.pop().ok_or_else(|| Error::Config("no table was asked for".into()))
    }

    /// Reads several tables, like [`open`](Self::open). Their memory use does not grow with their number.
    ///
    /// # Errors
    ///
    /// If a table cannot be read, is damaged, or has no such column of images.
    pub fn open_all(paths: &[PathBuf], column: Option<&str>) -> Result<Vec<Self>> {
        Self::open_within(paths, column, HELD_BYTES)
    }

    /// Like [`open_all`](Self::open_all), but holds at most `held` bytes of images.
    fn open_within(paths: &[PathBuf], column: Option<&str>, held: u64) -> Result<Vec<Self>> {
        let unreadable = |e: std::io::Error| format!("it cannot be read: {e}");
        let frame = |path: &PathBuf| -> Read<(SerializedFileReader<File>, Columns)> {
            let reader = schema::open(File::open(path).map_err(unreadable)?)?;
            let columns = Columns::of(&reader, column)?;
            Ok((reader, columns))
        };
        let error = |path: &Path, reason: String| Error::data_set(path.display().to_string(), reason);
        let mut tables = Vec::with_capacity(paths.len());
        for path in paths {
            tables.push(guarded(|| frame(path)).map_err(|reason| error(path, reason))?);
        }
        let bytes = tables.iter().map(|(reader, columns)| columns.image_bytes(reader)).fold(0, u64::saturating_add);
        if bytes <= held {
            let whole = |path: &PathBuf| {
                let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
                Self::from_bytes(&path.display().to_string(), bytes.into(), column)
            };
            return paths.iter().map(whole).collect();
        }
        let cache = GroupCache::new(held);
        let mut grouped = Vec::with_capacity(paths.len());
        for (number, (path, (reader, columns))) in paths.iter().zip(tables).enumerate() {
            let name = path.display().to_string();
            let table = guarded(|| {
                let source = Arc::new(File::open(path).map_err(unreadable)?);
                Self::grouped(&name, (reader, source), columns, (cache.clone(), number))
            });
            grouped.push(table.map_err(|reason| error(path, reason))?);
        }
        Ok(grouped)
    }

    /// A table whose images stay in its file.
    fn grouped(
        name: &str,
        (reader, source): (SerializedFileReader<File>, Arc<File>),
        columns: Columns,
        (cache, number): (Arc<GroupCache>, usize),
    ) -> Read<Self> {
        let rows = Rows::read(&reader, &source, &columns, false)?;
        let fingerprint = schema::fingerprint(&reader);
        let (tasks, groups) = (columns.tasks.clone(), Groups::new(reader, source, columns, cache, number)?);
        Ok(Self::of(name, Images::Grouped(groups), tasks, rows, fingerprint))
    }

    /// Reads a table from memory.
    ///
    /// # Errors
    ///
    /// If a table cannot be read, is damaged, or has no such column of images.
    pub fn from_bytes(name: &str, bytes: bytes::Bytes, column: Option<&str>) -> Result<Self> {
        let fingerprint = crate::hexadecimal(&Sha256::digest(&bytes));
        let read = || -> Read<Self> {
            let reader = schema::open(bytes.clone())?;
            let columns = Columns::of(&reader, column)?;
            let mut rows = Rows::read(&reader, &Arc::new(bytes), &columns, true)?;
            let images = Images::Held(std::mem::take(&mut rows.images));
            Ok(Self::of(name, images, columns.tasks, rows, fingerprint))
        };
        guarded(read).map_err(|reason| Error::data_set(name, reason))
    }

    fn of(name: &str, images: Images, tasks: Vec<Task>, rows: Rows, fingerprint: String) -> Self {
        let Rows { labels, columns, .. } = rows;
        Self {
            name: name.into(),
            images,
            tasks,
            labels,
            columns,
            notice: None,
            fingerprint,
            options: ReadOptions::default(),
        }
    }

    /// The same table with the license notice of its images.
    pub fn with_notice(mut self, notice: &str) -> Self {
        self.notice = Some(notice.into());
        self
    }

    /// The same table, whose images are read with `options`.
    pub fn read_with(mut self, options: ReadOptions) -> Self {
        self.options = options;
        self
    }

    /// Encoded image in a row.
    fn with_bytes<T>(&self, index: usize, decode: impl FnOnce(&[u8], &str) -> Result<T>) -> Result<T> {
        let key = self.key(index);
        let decode = |bytes: &[u8], key: &str| match bytes.is_empty() {
            true => Err(Error::Image {
                key: key.into(),
                reason: "its row holds no bytes (a path alone is not followed)".into(),
            }),
            false => decode(bytes, key),
        };
        let missing = || Error::data_set(&self.name, format!("it has no image {index}"));
        match &self.images {
            Images::Held(held) => decode(held.get(index).ok_or_else(missing)?, &key),
            Images::Grouped(groups) => {
                let (group, place) = groups.locate(index).ok_or_else(missing)?;
                let group = guarded(|| groups.load(group)).map_err(|reason| Error::data_set(&self.name, reason))?;
                decode(group.get(place).ok_or_else(missing)?, &key)
            }
        }
    }
}

impl Dataset for ParquetDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        match &self.images {
            Images::Held(held) => held.len(),
            Images::Grouped(groups) => groups.rows(),
        }
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.with_bytes(index, |bytes, key| Image::decode_with(bytes, key, self.options))
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.with_bytes(index, |bytes, _| Ok(Some(bytes.to_vec())))
    }

    fn size(&self, index: usize) -> Result<Size> {
        if self.options.apply_orientation {
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

    fn columns(&self) -> Vec<&str> {
        self.columns.keys().map(String::as_str).collect()
    }

    fn text(&self, column: &str, index: usize) -> Option<&str> {
        self.columns.get(column)?.get(index)
    }

    fn key(&self, index: usize) -> String {
        format!("{}, row {index}", self.name)
    }

    fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    fn contents(&self) -> Result<String> {
        self.fingerprint().map(|key| self.options.cache_key(key))
    }

    /// Hash of the file, or of its metadata if the file is too large to be held in memory.
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
        // Two tables that share the memory of less than one group.
        let grouped = ParquetDataset::open_within(&[path.clone(), path], Some("image"), 1000).unwrap().pop().unwrap();
        assert!(matches!(grouped.images, Images::Grouped(_)));
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
    fn a_column_that_is_not_there_is_reported_with_those_that_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/emoji/noto-test.parquet");
        let text = ParquetDataset::open(&path, Some("photo")).err().unwrap().to_string();
        assert!(text.contains("no column called photo; it has image"), "{text}");
        let text = ParquetDataset::open(&path, Some("name")).err().unwrap().to_string();
        assert!(text.contains("neither bytes"), "{text}");
    }
}
