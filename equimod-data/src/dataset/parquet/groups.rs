//! The pictures of a large table, a row group at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;

use super::schema::{Columns, picture};
use super::{Read, broken};

/// Row groups that are kept.
const KEPT: usize = 16;

/// The encoded pictures of a row group.
type Group = Arc<Vec<Vec<u8>>>;

/// A table whose row groups are loaded as they are needed.
pub(super) struct Groups {
    reader: SerializedFileReader<File>,
    columns: Columns,
    /// First row of each group, and the number of rows.
    starts: Vec<usize>,
    /// The groups used last, the newest in front.
    kept: Mutex<VecDeque<(usize, Group)>>,
}

impl Groups {
    pub fn new(reader: SerializedFileReader<File>, columns: Columns) -> Read<Self> {
        let mut starts = vec![0];
        for group in reader.metadata().row_groups() {
            let rows = usize::try_from(group.num_rows()).map_err(|_| "a row group has a negative number of rows")?;
            starts.push(starts.last().copied().unwrap_or(0) + rows);
        }
        match starts.last() {
            Some(&rows) if rows > 0 => Ok(Self { reader, columns, starts, kept: Mutex::default() }),
            _ => Err("it holds no pictures".into()),
        }
    }

    pub fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The group of a row, and its place there.
    pub fn locate(&self, row: usize) -> Option<(usize, usize)> {
        let group = self.starts.partition_point(|&start| start <= row).checked_sub(1)?;
        (row < self.rows()).then(|| (group, row - self.starts[group]))
    }

    /// The pictures of a group.
    pub fn load(&self, group: usize) -> Read<Group> {
        if let Some(found) = self.kept(group) {
            return Ok(found);
        }
        let reader = self.reader.get_row_group(group).map_err(broken)?;
        let projection = self.columns.pictures().map_err(broken)?;
        let mut pictures = Vec::new();
        for row in RowIter::from_row_group(Some(projection), reader.as_ref()).map_err(broken)? {
            let row = row.map_err(broken)?;
            let (_, field) = row.get_column_iter().next().ok_or("a row has no picture")?;
            pictures.push(picture(field).ok_or("a picture is neither bytes nor a struct with bytes")?);
        }
        let loaded = Arc::new(pictures);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((group, loaded.clone()));
        kept.truncate(KEPT);
        Ok(loaded)
    }

    fn kept(&self, group: usize) -> Option<Group> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(number, _)| *number == group)?;
        let found = kept.remove(place)?;
        kept.push_front(found.clone());
        Some(found.1)
    }
}
