//! Event files for TensorBoard.
//!
//! A file is a sequence of TFRecords: each holds the length of an `Event` (tensorflow/core/util/event.proto), its
//! encoding in Protocol Buffers, and checksums of both. No maintained crate writes them without a `protoc` program, so
//! `prost` encodes and `crc32c` computes the checksums.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::jsonl::{append, flush, shorten};
use super::{ProbeReport, Sink, StepReport};
use crate::{Error, Result};

/// Version string at the start of every event file.
const VERSION: &str = "brain.Event:2";
/// Prefix of the names of event files.
const PREFIX: &str = "events.out.tfevents.";
/// Longest record in bytes that is read.
const LONGEST: u64 = 1 << 24;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Written even if it is 0, because TensorBoard has it as one of several kinds of value.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes each step and probe as scalars.
pub struct TensorBoard {
    file: BufWriter<File>,
    path: PathBuf,
}

impl TensorBoard {
    /// Appends to the event file of the folder `run` after the events of `step`; later events are removed, since their
    /// steps will be repeated. Creates the file if there is none.
    ///
    /// # Errors
    ///
    /// If the folder or the file cannot be read or written.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = match existing(run)? {
            Some(path) => {
                shorten(&path, length_up_to(&path, step)?)?;
                path
            }
            None => run.join(format!("{PREFIX}{}.equimod", now() as u64)),
        };
        let mut sink = Self { file: BufWriter::new(append(&path)?), path };
        if fs::metadata(&sink.path).map_err(|e| Error::io("read", &sink.path, e))?.len() == 0 {
            sink.write(0, What::FileVersion(VERSION.into()))?;
        }
        Ok(sink)
    }

    fn scalars<'a>(&mut self, step: u64, scalars: impl Iterator<Item = (String, &'a f64)>) -> Result<()> {
        let value = scalars.map(|(tag, value)| Scalar { tag, simple_value: Some(*value as f32) }).collect();
        self.write(step, What::Summary(Summary { value }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) };
        self.file.write_all(&record(&event.encode_to_vec())).map_err(|e| Error::io("write", &self.path, e))
    }
}

impl Sink for TensorBoard {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        let pace = report.pace;
        let named = [
            ("train/loss", report.loss),
            ("train/learning_rate", report.learning_rate),
            ("train/gradient_norm", report.gradient_norm),
            ("train/epoch", report.epoch as f64),
            ("speed/images_per_second", pace.images_per_second),
        ];
        let shares = pace.shares.named();
        let named = named.iter().map(|(name, value)| ((*name).to_owned(), value));
        let shares = shares.iter().map(|(name, share)| (format!("speed/{name}"), share));
        // The metrics of a module are grouped under its name.
        let tag = |name: &str| if name.contains('.') { name.replace('.', "/") } else { format!("train/{name}") };
        let metrics = report.metrics.iter().map(|(name, value)| (tag(name), value));
        let of_ranks = pace.slowest.map(|slowest| {
            [("exchange", pace.shares.exchange), ("slowest_rank", slowest.rank as f64)]
                .map(|(name, value)| (format!("speed/{name}"), value))
        });
        let of_ranks = of_ranks.iter().flatten().map(|(name, value)| (name.clone(), value));
        self.scalars(report.step, named.chain(metrics).chain(shares).chain(of_ranks))
    }

    fn probe(&mut self, report: &ProbeReport) -> Result<()> {
        self.scalars(report.step, report.scores.iter().map(|(name, score)| (format!("probe/{name}"), score)))
    }

    fn note(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.file, &self.path)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Path of the newest event file in a folder.
fn existing(run: &Path) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(run).map_err(|e| Error::io("read", run, e))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(PREFIX)).max().map(|name| run.join(name)))
}

/// A TFRecord: length, checksum of the length, `data`, checksum of the data.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let parts = [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()];
    parts.concat()
}

/// Checksum of TFRecord: CRC-32C, rotated right by 15 bits plus a constant.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Length in bytes up to the first event of a later step, or up to the first unreadable record.
fn length_up_to(path: &Path, step: u64) -> Result<u64> {
    let mut file = BufReader::new(File::open(path).map_err(|e| Error::io("read", path, e))?);
    let mut length = 0;
    while let Some((event, bytes)) = next(&mut file) {
        if event.step > step as i64 {
            break;
        }
        length += bytes;
    }
    Ok(length)
}

/// The next event and the length of its record; `None` at the end, or where the file is truncated or damaged.
fn next(file: &mut impl Read) -> Option<(Event, u64)> {
    let mut head = [0; 12];
    file.read_exact(&mut head).ok()?;
    let (length, checksum) = head.split_first_chunk::<8>()?;
    let size = u64::from_le_bytes(*length);
    if masked(length).to_le_bytes() != checksum || size > LONGEST {
        return None;
    }
    let mut data = vec![0; size as usize + 4];
    file.read_exact(&mut data).ok()?;
    let (data, checksum) = data.split_at(size as usize);
    let sound = masked(data).to_le_bytes() == checksum;
    Some((Event::decode(data).ok().filter(|_| sound)?, size + 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64) -> StepReport {
        let metrics = vec![("invariance_loss".into(), 0.5), ("equimod.loss".into(), 0.25)];
        StepReport { step, loss: step as f64, metrics, ..StepReport::default() }
    }

    fn steps(path: &Path) -> Vec<i64> {
        let mut file = File::open(path).unwrap();
        std::iter::from_fn(|| next(&mut file)).map(|(event, _)| event.step).collect()
    }

    #[test]
    fn later_steps_and_truncated_records_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = TensorBoard::open(folder.path(), 0).unwrap();
        (1..=5).for_each(|step| sink.step(&report(step)).unwrap());
        sink.flush().unwrap();
        let path = existing(folder.path()).unwrap().unwrap();
        assert_eq!(steps(&path), [0, 1, 2, 3, 4, 5]);
        // As after a crash within a record.
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut sink = TensorBoard::open(folder.path(), 3).unwrap();
        sink.step(&report(4)).unwrap();
        sink.flush().unwrap();
        assert_eq!(existing(folder.path()).unwrap().unwrap(), path);
        assert_eq!(steps(&path), [0, 1, 2, 3, 4]);
        // A flipped bit ends what can be read.
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 6;
        bytes[last] ^= 4;
        fs::write(&path, bytes).unwrap();
        assert_eq!(steps(&path), [0, 1, 2, 3]);
    }
}
