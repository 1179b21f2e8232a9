//! New lines of `metrics.jsonl`, as metrics of MLflow.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::{Metric, allowed, now};

/// Number of metrics from which a batch is full.
const FULL: usize = 900;

/// A place in the file: a step, and the number of its lines before this place. A resumed run writes the same lines
/// again, so that their places are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Number of the step.
    pub step: u64,
    /// Number of lines.
    pub lines: u64,
}

impl Place {
    /// Place after another line, which is one of `step`.
    fn after(self, step: u64) -> Self {
        Self { step, lines: if step == self.step { self.lines + 1 } else { 1 } }
    }
}

/// Metrics of consecutive lines.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// Place after the last line.
    pub end: Place,
}

/// Reader of the lines that a run writes.
pub struct Tail {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// Beginning of a line whose end is not yet written.
    line: Vec<u8>,
    place: Place,
    /// Place up to which lines are passed over.
    sent: Place,
}

impl Tail {
    /// Reader of the lines after `sent`.
    pub fn new(path: PathBuf, sent: Place) -> Self {
        Self { path, file: None, line: Vec::new(), place: Place::default(), sent }
    }

    /// The metrics of the next lines; `None` if there are no new ones.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        let (mut batch, timestamp) = (Batch::default(), now());
        while batch.metrics.len() < FULL {
            let Some(line) = self.next_line()? else { break };
            let Some(step) = line.get("step").and_then(Value::as_u64) else { continue };
            self.place = self.place.after(step);
            if self.place > self.sent {
                batch.metrics.extend(metrics(&line, step, timestamp));
                batch.end = self.place;
            }
        }
        Ok(Some(batch).filter(|batch| !batch.metrics.is_empty()))
    }

    fn next_line(&mut self) -> io::Result<Option<Map<String, Value>>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => self.file.insert(BufReader::new(opened?)),
            },
        };
        file.read_until(b'\n', &mut self.line)?;
        if !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        let line = serde_json::from_slice(&self.line).unwrap_or_default();
        self.line.clear();
        Ok(Some(line))
    }
}

/// The numbers of a line; those that are not finite are left out.
fn metrics(line: &Map<String, Value>, step: u64, timestamp: u64) -> impl Iterator<Item = Metric> {
    let numbers = line.iter().filter(|(name, _)| *name != "step");
    numbers
        .filter_map(move |(name, value)| Some(Metric { key: allowed(name), value: value.as_f64()?, timestamp, step }))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_read_once_when_they_are_whole_also_after_a_resume() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut write = |text: &str| file.write_all(text.as_bytes()).unwrap();
        let values = |batch: &Batch| -> Vec<(u64, f64)> { batch.metrics.iter().map(|m| (m.step, m.value)).collect() };
        let mut tail = Tail::new(path.clone(), Place::default());
        assert_eq!(tail.next_batch().unwrap(), None);
        write("{\"step\":1,\"loss\":0.5,\"bad\":null}\n{\"step\":2,\"lo");
        assert_eq!(values(&tail.next_batch().unwrap().unwrap()), [(1, 0.5)]);
        assert_eq!(tail.next_batch().unwrap(), None);
        write("ss\":0.25}\n");
        let batch = tail.next_batch().unwrap().unwrap();
        assert_eq!((values(&batch), batch.end), (vec![(2, 0.25)], Place { step: 2, lines: 1 }));
        // The probe of a step whose own line was sent before.
        write("{\"step\":2,\"probe.knn\":0.75}\n{\"step\":3,\"loss\":0.125}\n");
        let mut resumed = Tail::new(path, batch.end);
        let batch = resumed.next_batch().unwrap().unwrap();
        assert_eq!((values(&batch), batch.end), (vec![(2, 0.75), (3, 0.125)], Place { step: 3, lines: 1 }));
    }
}
