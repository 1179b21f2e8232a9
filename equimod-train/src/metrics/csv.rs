//! `metrics.csv`, the numbers of `metrics.jsonl` as a table.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Writer, WriterBuilder};
use serde_json::{Map, Value};

use super::jsonl::{append, probe_line, step_line};
use super::{ProbeReport, Sink, StepReport};
use crate::{Error, Result};

/// Writes each step and each probe as a row. Columns are in order of first appearance; when a name appears for the
/// first time, as at the first probe, the file is written again with another column, which is empty in earlier rows.
pub struct Csv {
    rows: Writer<File>,
    path: PathBuf,
    columns: Vec<String>,
}

impl Csv {
    /// Makes the file in the folder `run` from its `metrics.jsonl`, in place of an earlier one, and appends to it. The
    /// rows of a resumed run are therefore those of `metrics.jsonl`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn open(run: &Path) -> Result<Self> {
        let (source, path) = (run.join("metrics.jsonl"), run.join("metrics.csv"));
        let mut columns = Vec::new();
        each_line(&source, |line| {
            add_names(&mut columns, line);
            Ok(())
        })?;
        let rows = replace(&path, &columns, |table| each_line(&source, |line| write(table, &path, &columns, line)))?;
        Ok(Self { rows, path, columns })
    }

    fn row(&mut self, line: &Map<String, Value>) -> Result<()> {
        if add_names(&mut self.columns, line) {
            self.rows = self.with_more_columns()?;
        }
        write(&mut self.rows, &self.path, &self.columns, line)?;
        self.rows.flush().map_err(|e| Error::io("write", &self.path, e))
    }

    /// Writes the rows again for the present columns.
    fn with_more_columns(&self) -> Result<Writer<File>> {
        let fail = |error: csv::Error| Error::io("read", &self.path, error.into());
        let mut earlier = ReaderBuilder::new().from_path(&self.path).map_err(fail)?;
        replace(&self.path, &self.columns, |table| {
            let mut row = StringRecord::new();
            while earlier.read_record(&mut row).map_err(fail)? {
                (row.len()..self.columns.len()).for_each(|_| row.push_field(""));
                table.write_record(&row).map_err(|e| Error::io("write", &self.path, e.into()))?;
            }
            Ok(())
        })
    }
}

impl Sink for Csv {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        self.row(&step_line(report))
    }

    fn probe(&mut self, report: &ProbeReport) -> Result<()> {
        self.row(&probe_line(report))
    }

    fn flush(&mut self) -> Result<()> {
        let synced = self.rows.flush().and_then(|()| self.rows.get_ref().sync_all());
        synced.map_err(|e| Error::io("write", &self.path, e))
    }
}

/// Calls `each` with every line of a file of JSON lines; a missing file has none.
fn each_line(path: &Path, mut each: impl FnMut(&Map<String, Value>) -> Result<()>) -> Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|e| Error::io("read", path, e))?,
    };
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|e| Error::io("read", path, e))?;
        if let Ok(line) = serde_json::from_str(&line) {
            each(&line)?;
        }
    }
    Ok(())
}

/// Adds the names of a line to the columns; returns whether any was new.
fn add_names(columns: &mut Vec<String>, line: &Map<String, Value>) -> bool {
    let before = columns.len();
    for name in line.keys() {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    columns.len() > before
}

/// Puts a new table with a header and the rows of `fill` in the place of the file, and opens it for more rows.
fn replace(
    path: &Path,
    columns: &[String],
    fill: impl FnOnce(&mut Writer<File>) -> Result<()>,
) -> Result<Writer<File>> {
    let new = path.with_extension("csv.new");
    let mut table = Writer::from_path(&new).map_err(|e| Error::io("write", &new, e.into()))?;
    if !columns.is_empty() {
        table.write_record(columns).map_err(|e| Error::io("write", &new, e.into()))?;
    }
    fill(&mut table)?;
    table.flush().map_err(|e| Error::io("write", &new, e))?;
    drop(table);
    fs::rename(&new, path).map_err(|e| Error::io("write", path, e))?;
    Ok(WriterBuilder::new().flexible(true).from_writer(append(path)?))
}

/// Writes the values of a line in the order of the columns. Numbers have the digits of `metrics.jsonl`; those that are
/// not finite are empty.
fn write(table: &mut Writer<File>, path: &Path, columns: &[String], line: &Map<String, Value>) -> Result<()> {
    let field = |name: &String| line.get(name).filter(|value| !value.is_null()).map(Value::to_string);
    let fields = columns.iter().map(|name| field(name).unwrap_or_default());
    table.write_record(fields).map_err(|e| Error::io("write", path, e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{JsonLines, cut};

    fn step(step: u64) -> StepReport {
        let metrics = vec![("equimod.loss".into(), 0.25), ("bad".into(), f64::NAN)];
        StepReport { step, epoch: 1, loss: 1.0 / 3.0, metrics, ..StepReport::default() }
    }

    fn probe(step: u64) -> ProbeReport {
        ProbeReport { step, epoch: 1, scores: vec![("knn".into(), 0.5)] }
    }

    /// Logs the steps and a probe after each, as the sinks of a run do.
    fn log(run: &Path, steps: std::ops::RangeInclusive<u64>) {
        let mut sinks: [Box<dyn Sink>; 2] =
            [Box::new(JsonLines::open(&run.join("metrics.jsonl")).unwrap()), Box::new(Csv::open(run).unwrap())];
        for number in steps {
            for sink in &mut sinks {
                sink.step(&step(number)).unwrap();
                sink.probe(&probe(number)).unwrap();
            }
        }
    }

    #[test]
    fn rows_are_live_and_the_same_after_a_resume() {
        let [whole, resumed, late] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let table = |run: &Path| fs::read_to_string(run.join("metrics.csv")).unwrap();
        log(whole.path(), 1..=3);
        let want = table(whole.path());
        let lines: Vec<&str> = want.lines().collect();
        assert_eq!(lines[0], "step,epoch,learning_rate,loss,gradient_norm,equimod.loss,bad,probe.knn");
        assert_eq!(lines[1], "1,1,0.0,0.3333333333333333,0.0,0.25,,");
        assert_eq!((lines[2], lines.len()), ("1,1,,,,,,0.5", 7));
        // Killed in the middle of a row after step 2, and resumed after step 1.
        log(resumed.path(), 1..=2);
        let broken = table(resumed.path()) + "3,1,0.0,0.33";
        fs::write(resumed.path().join("metrics.csv"), broken).unwrap();
        cut(&resumed.path().join("metrics.jsonl"), 1).unwrap();
        log(resumed.path(), 2..=3);
        assert_eq!(table(resumed.path()), want);
        // Turned on when the run is resumed.
        let mut first = JsonLines::open(&late.path().join("metrics.jsonl")).unwrap();
        first.step(&step(1)).unwrap();
        first.probe(&probe(1)).unwrap();
        drop(first);
        log(late.path(), 2..=3);
        assert_eq!(table(late.path()), want);
    }
}
