//! `metrics.jsonl`, with one object per step or probe, and `train.log`, with messages.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{ProbeReport, Sink, StepReport};
use crate::{Error, Result};

/// Writes each step as one line of JSON. Times are left out, so that the same run gives the same file.
pub struct JsonLines {
    file: BufWriter<File>,
    path: PathBuf,
}

impl JsonLines {
    /// Appends to `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(append(path)?), path: path.into() })
    }

    /// Writes a line at once, for those who read the file while the run goes on.
    fn line(&mut self, line: Map<String, Value>) -> Result<()> {
        let written = writeln!(self.file, "{}", Value::Object(line)).and_then(|()| self.file.flush());
        written.map_err(|e| Error::io("write", &self.path, e))
    }
}

/// The numbers of a step by name.
pub(super) fn step_line(report: &StepReport) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("step".into(), json!(report.step));
    line.insert("epoch".into(), json!(report.epoch));
    line.insert("learning_rate".into(), json!(report.learning_rate));
    line.insert("loss".into(), json!(report.loss));
    line.insert("gradient_norm".into(), json!(report.gradient_norm));
    line.extend(report.metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
    line
}

/// The scores of a probe by name.
pub(super) fn probe_line(report: &ProbeReport) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("step".into(), json!(report.step));
    line.insert("epoch".into(), json!(report.epoch));
    line.extend(report.scores.iter().map(|(name, score)| (format!("probe.{name}"), json!(score))));
    line
}

impl Sink for JsonLines {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        self.line(step_line(report))
    }

    fn probe(&mut self, report: &ProbeReport) -> Result<()> {
        self.line(probe_line(report))
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.file, &self.path)
    }
}

/// Removes the lines of `metrics.jsonl` after `step`, since those steps will be repeated, and a truncated last line.
///
/// # Errors
///
/// If the file cannot be read or written.
pub fn cut(path: &Path, step: u64) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let step_of = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64();
    let mut kept = 0;
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(|e| Error::io("read", path, e))?;
        let whole = line.ends_with(b"\n");
        let text = String::from_utf8_lossy(&line);
        if !whole || step_of(&text).is_none_or(|s| s > step) {
            break;
        }
        kept += read as u64;
    }
    shorten(path, kept)
}

/// Truncates a file to `length` bytes.
pub(super) fn shorten(path: &Path, length: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(|e| Error::io("write", path, e))?;
    file.set_len(length).and_then(|()| file.sync_all()).map_err(|e| Error::io("write", path, e))
}

/// Writes messages, and a line of numbers at the first step of each epoch and at the last step of the run.
pub struct TextLog {
    file: BufWriter<File>,
    path: PathBuf,
    epoch: u64,
}

impl TextLog {
    /// Appends to `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(append(path)?), path: path.into(), epoch: 0 })
    }
}

impl Sink for TextLog {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        if report.epoch == self.epoch && report.step != report.total_steps {
            return Ok(());
        }
        self.epoch = report.epoch;
        let slowest = report.pace.slowest.map_or_else(String::new, |slowest| format!(" {slowest}"));
        let line = format!(
            "epoch {}/{} step {}/{} loss {:.4} learning rate {:.3e} {:.1} images/s wait {:.0} %{slowest}",
            report.epoch,
            report.epochs,
            report.step,
            report.total_steps,
            report.loss,
            report.learning_rate,
            report.pace.images_per_second,
            100.0 * report.pace.shares.data
        );
        self.note(&line)
    }

    fn probe(&mut self, report: &ProbeReport) -> Result<()> {
        let scores: Vec<String> =
            report.scores.iter().map(|(name, score)| format!("{name} {:.1} %", 100.0 * score)).collect();
        self.note(&format!("epoch {} step {} probe {}", report.epoch, report.step, scores.join(" ")))
    }

    fn note(&mut self, text: &str) -> Result<()> {
        writeln!(self.file, "{text}").map_err(|e| Error::io("write", &self.path, e))
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.file, &self.path)
    }
}

pub(super) fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io("write", path, e))
}

pub(super) fn flush(file: &mut BufWriter<File>, path: &Path) -> Result<()> {
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|e| Error::io("write", path, e))
}
