//! `metrics.jsonl`: one object a step; `train.log`: notes.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Sink, StepReport};
use crate::{Error, Result};

/// Writes each step as one JSON object a line. Times are left out: the same run gives the same file.
pub struct JsonLines {
    file: BufWriter<File>,
    path: PathBuf,
}

impl JsonLines {
    /// Appends to `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(append(path)?), path: path.into() })
    }
}

impl Sink for JsonLines {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        let mut line = Map::new();
        line.insert("step".into(), json!(report.step));
        line.insert("epoch".into(), json!(report.epoch));
        line.insert("learning_rate".into(), json!(report.learning_rate));
        line.insert("loss".into(), json!(report.loss));
        line.insert("gradient_norm".into(), json!(report.gradient_norm));
        line.extend(report.metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
        writeln!(self.file, "{}", Value::Object(line)).map_err(|e| Error::io("write", &self.path, e))
    }

    fn note(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.file, &self.path)
    }
}

/// Writes notes, and a line of numbers at the first step of each epoch and at the last step of all.
pub struct TextLog {
    file: BufWriter<File>,
    path: PathBuf,
    epoch: u64,
}

impl TextLog {
    /// Appends to `path`.
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
        let line = format!(
            "epoch {}/{} step {}/{} loss {:.4} learning rate {:.3e} {:.1} pictures/s wait {:.0} %",
            report.epoch,
            report.epochs,
            report.step,
            report.total_steps,
            report.loss,
            report.learning_rate,
            report.images_per_second,
            100.0 * report.wait_share
        );
        self.note(&line)
    }

    fn note(&mut self, text: &str) -> Result<()> {
        writeln!(self.file, "{text}").map_err(|e| Error::io("write", &self.path, e))
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.file, &self.path)
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io("write", path, e))
}

fn flush(file: &mut BufWriter<File>, path: &Path) -> Result<()> {
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|e| Error::io("write", path, e))
}
