//! Tar shards in the WebDataset layout: members of one sample share the part of their name before the first dot.
//! `KEY.jpg` (or another format) is the image, `KEY.cls` its class as an integer or a string, and the scalar fields of
//! `KEY.json` may be labels. Members of a sample need not be adjacent.
//!
//! Shards are indexed once. With the index, every sample has a known position in its file. Samples can be read in any
//! order, and only the images of a batch are read. Without an index, shards could only be streamed.

mod index;
mod locate;
mod naming;
mod scan;
mod shard;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use super::values::Column;
use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::reading::ReadOptions;
use crate::{Error, Result};

use index::Index;
pub use index::{IndexConfig, Indexed, index_shards};
use locate::{is_index, shard_paths};

/// Indexed tar shards. Memory use is that of the index, about a hundred bytes per sample.
pub struct ShardsDataset {
    name: String,
    shards: Vec<Shard>,
    tasks: Vec<Task>,
    columns: BTreeMap<String, Column>,
    fingerprint: String,
    options: ReadOptions,
}

/// A shard and the number of samples before it.
struct Shard {
    path: PathBuf,
    before: usize,
    entries: shard::Shard,
}

impl Shard {
    /// Asks the system to read an image ahead, if the system supports it.
    fn read_ahead(&self, file: &File, place: usize) {
        #[cfg(target_os = "linux")]
        {
            let (offset, length) = (self.entries.offsets[place], u64::from(self.entries.lengths[place]));
            // Ignored advice only costs time.
            let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (file, place);
    }
}

impl ShardsDataset {
    /// Whether `location` names shards: a `.tar` file, a brace pattern of such files, a folder that contains some, or
    /// an index.
    pub fn is_at(location: &Path) -> bool {
        is_index(location) || shard_paths(location).map_or(true, |paths| !paths.is_empty())
    }

    /// Opens the shards at `location`: a folder of `.tar` files, one such file, or a pattern `name-{000..012}.tar`,
    /// which [`index_shards`] has indexed; or an index.
    ///
    /// # Errors
    ///
    /// If there are no shards or no index, or the shards changed since they were indexed.
    pub fn open(location: &Path) -> Result<Self> {
        let name = location.display().to_string();
        let command = format!("run `equimod data index {name}`");
        let paths = if is_index(location) { None } else { Some(shard_paths(location)?) };
        let index = Index::read(location)?.ok_or_else(|| {
            Error::data_set(&name, format!("it is a stream of tar files without an index; {command} once"))
        })?;
        let stale = |why: String| Error::data_set(&name, format!("{why} since it was indexed; {command} again"));
        let folder = location.parent().unwrap_or(Path::new("."));
        let paths = paths.unwrap_or_else(|| index.shards.iter().map(|shard| folder.join(&shard.file)).collect());
        if paths.len() != index.shards.len() {
            return Err(stale(format!("its {} shards became {}", index.shards.len(), paths.len())));
        }
        let (mut shards, mut before, mut classes) = (Vec::new(), 0, 0);
        let fingerprint = index.fingerprint()?;
        let damaged = |reason: String| Error::data_set(&name, format!("its index is damaged: {reason}; {command}"));
        index.check_columns().map_err(damaged)?;
        for (path, entries) in paths.into_iter().zip(index.shards) {
            let bytes = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?.len();
            if path.file_name() != entries.file.file_name() || bytes != entries.bytes {
                return Err(stale(format!("the shard {} changed", path.display())));
            }
            entries.check().map_err(damaged)?;
            classes = entries.labels.iter().flatten().max().map_or(classes, |&label| classes.max(label as usize + 1));
            let count = entries.offsets.len();
            shards.push(Shard { path, before, entries });
            before += count;
        }
        if !index.classes.is_empty() && classes > index.classes.len() {
            return Err(damaged("it has a class without a name".into()));
        }
        let numbered = || (0..classes).map(|class| class.to_string()).collect();
        let classes_of = if index.classes.is_empty() { numbered() } else { index.classes };
        let tasks = if classes > 0 { vec![Task { name: "class".into(), classes: classes_of }] } else { Vec::new() };
        Ok(Self { name, shards, tasks, columns: index.columns, fingerprint, options: ReadOptions::default() })
    }

    /// The same shards, whose images are read with `options`.
    pub fn read_with(mut self, options: ReadOptions) -> Self {
        self.options = options;
        self
    }

    /// Shard of a sample, and the index of the sample in it.
    fn locate(&self, index: usize) -> Option<(&Shard, usize)> {
        let shard = &self.shards[self.shards.partition_point(|shard| shard.before <= index).checked_sub(1)?];
        let place = index - shard.before;
        (place < shard.entries.offsets.len()).then_some((shard, place))
    }

    fn read(&self, index: usize) -> Result<(Vec<u8>, String)> {
        let missing = || Error::data_set(&self.name, format!("it has no image {index}"));
        let (shard, place) = self.locate(index).ok_or_else(missing)?;
        let mut bytes = vec![0; shard.entries.lengths[place] as usize];
        let mut file = File::open(&shard.path).map_err(|e| Error::io(&shard.path, e))?;
        file.seek(SeekFrom::Start(shard.entries.offsets[place]))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::io(&shard.path, e))?;
        Ok((bytes, self.key(index)))
    }
}

impl Dataset for ShardsDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.shards.last().map_or(0, |shard| shard.before + shard.entries.offsets.len())
    }

    fn image(&self, index: usize) -> Result<Image> {
        let (bytes, key) = self.read(index)?;
        Image::decode_with(&bytes, &key, self.options)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.read(index).map(|(bytes, _)| Some(bytes))
    }

    fn size(&self, index: usize) -> Result<Size> {
        if self.options.apply_orientation {
            return Ok(self.image(index)?.size());
        }
        let (bytes, key) = self.read(index)?;
        Image::decode_size(&bytes, &key)
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.tasks.get(task)?;
        let (shard, place) = self.locate(index)?;
        shard.entries.labels[place]
    }

    fn columns(&self) -> Vec<&str> {
        self.columns.keys().map(String::as_str).collect()
    }

    fn text(&self, column: &str, index: usize) -> Option<&str> {
        self.columns.get(column)?.get(index)
    }

    fn will_need(&self, indices: &[usize]) {
        let mut wanted: Vec<(&Shard, usize)> = indices.iter().filter_map(|&index| self.locate(index)).collect();
        wanted.sort_by_key(|(shard, place)| (shard.before, *place));
        for places in wanted.chunk_by(|(one, _), (other, _)| one.before == other.before) {
            // A file that cannot be opened now causes an error when it is read.
            let Ok(file) = File::open(&places[0].0.path) else { continue };
            places.iter().for_each(|&(shard, place)| shard.read_ahead(&file, place));
        }
    }

    fn key(&self, index: usize) -> String {
        let key = |(shard, place): (&Shard, usize)| format!("{}:{}", shard.path.display(), shard.entries.keys[place]);
        self.locate(index).map(key).unwrap_or_default()
    }

    fn contents(&self) -> Result<String> {
        self.fingerprint().map(|key| self.options.cache_key(key))
    }

    /// Hash of the index: names and lengths of the shards; key, position and label of every sample.
    fn fingerprint(&self) -> Result<String> {
        Ok(self.fingerprint.clone())
    }
}
