//! Images of large tables, read one row group at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;

use super::pages::Checked;
use super::schema::Columns;
use super::{Read, broken};

/// Encoded images of a row group.
type Group = Arc<Vec<Bytes>>;

/// Cache of row groups that several tables share; the most recently used groups are kept.
pub(super) struct GroupCache {
    most: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `(table, group)`, its images and their size in bytes; the most recent in front.
    groups: VecDeque<((usize, usize), Group, u64)>,
    bytes: u64,
}

impl GroupCache {
    /// Creates a cache of up to `most` bytes; one group always fits.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    fn find(&self, key: (usize, usize)) -> Option<Group> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = state.groups.iter().position(|(known, ..)| *known == key)?;
        let found = state.groups.remove(place)?;
        let group = found.1.clone();
        state.groups.push_front(found);
        Some(group)
    }

    fn keep(&self, key: (usize, usize), group: Group, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.push_front((key, group, bytes));
        state.bytes += bytes;
        while state.bytes > self.most && state.groups.len() > 1 {
            state.bytes -= state.groups.pop_back().map_or(0, |(.., bytes)| bytes);
        }
    }
}

/// A table whose row groups are loaded as needed.
pub(super) struct Groups {
    reader: SerializedFileReader<File>,
    source: Arc<File>,
    columns: Columns,
    /// First row of each group, and the total number of rows.
    starts: Vec<usize>,
    cache: Arc<GroupCache>,
    /// Index of the table among the tables that share the cache.
    table: usize,
}

impl Groups {
    pub fn new(
        reader: SerializedFileReader<File>,
        source: Arc<File>,
        columns: Columns,
        cache: Arc<GroupCache>,
        table: usize,
    ) -> Read<Self> {
        let mut starts = vec![0];
        for group in reader.metadata().row_groups() {
            let rows = usize::try_from(group.num_rows()).map_err(|_| "a row group has a negative number of rows")?;
            starts.push(starts.last().copied().unwrap_or(0) + rows);
        }
        match starts.last() {
            Some(&rows) if rows > 0 => Ok(Self { reader, source, columns, starts, cache, table }),
            _ => Err("it contains no images".into()),
        }
    }

    pub fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Row group of a row, and the index of the row in it.
    pub fn locate(&self, row: usize) -> Option<(usize, usize)> {
        let group = self.starts.partition_point(|&start| start <= row).checked_sub(1)?;
        (row < self.rows()).then(|| (group, row - self.starts[group]))
    }

    /// Reads the images of a group.
    pub fn load(&self, group: usize) -> Read<Group> {
        let key = (self.table, group);
        if let Some(found) = self.cache.find(key) {
            return Ok(found);
        }
        let reader = Checked { group: self.reader.get_row_group(group).map_err(broken)?, source: self.source.clone() };
        let projection = self.columns.images().map_err(broken)?;
        let mut images = Vec::new();
        for row in RowIter::from_row_group(Some(projection), &reader).map_err(broken)? {
            let row = row.map_err(broken)?;
            let (_, field) = row.get_column_iter().next().ok_or("a row has no image")?;
            let bytes = self.columns.image_in(field);
            images.push(bytes.ok_or("an image is neither bytes nor a structure with bytes")?);
        }
        let bytes = self.columns.image_bytes_of(&self.reader.metadata().row_groups()[group..=group]);
        let loaded = Arc::new(images);
        self.cache.keep(key, loaded.clone(), bytes);
        Ok(loaded)
    }
}
