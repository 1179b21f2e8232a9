//! The thread that sends the metrics of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use equimod_core::checkpoint::write_atomic;
use equimod_train::Status;
use serde::{Deserialize, Serialize};

use super::client::{Client, Failure, Metric, now};
use super::tail::{Batch, Place, Tail};

/// Time between two looks for new metrics.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two attempts to reach the server.
const LONGEST: Duration = Duration::from_secs(60);

/// Contents of `mlflow.json`: the run on the server, and what it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Identifier of the run on the server; empty before it is created.
    pub run: String,
    /// Whether the settings were logged.
    pub parameters: bool,
    /// Place in `metrics.jsonl` up to which metrics were sent.
    pub place: Place,
}

impl Sent {
    /// Reads the file in the run directory; without one, nothing was sent.
    ///
    /// # Errors
    ///
    /// If the file is damaged.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("mlflow.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        let read = std::fs::read(&path).map_err(anyhow::Error::from);
        let read = read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.map_err(|e| {
            let path = path.display();
            anyhow::anyhow!("{path} cannot be read: {e}; remove it to send the run to MLflow as a new one")
        })
    }
}

/// Description of a run, for the server.
pub struct Described {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the run.
    pub name: String,
    /// Time of the first start in milliseconds since 1970.
    pub start: u64,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// Settings.
    pub parameters: Vec<(String, String)>,
}

/// State of the thread.
pub struct Worker {
    client: Client,
    described: Described,
    folder: PathBuf,
    sent: Sent,
    tail: Tail,
    /// Metrics that were read and not yet sent.
    unsent: Option<Batch>,
    /// Whether the server has the run as running.
    begun: bool,
    /// Images per second of the newest step, as the bits of an f64.
    throughput: Arc<AtomicU64>,
}

impl Worker {
    /// A worker that goes on after what was sent.
    pub fn new(client: Client, described: Described, folder: &Path, sent: Sent, throughput: Arc<AtomicU64>) -> Self {
        let tail = Tail::new(folder.join("metrics.jsonl"), sent.place);
        Self { client, described, folder: folder.into(), sent, tail, unsent: None, begun: false, throughput }
    }

    /// Sends metrics until the status arrives with which the run ends, and then the rest. The first failure gives a
    /// warning; the server is asked again later, unless it refused.
    pub fn work(mut self, ends: &Receiver<Status>, warnings: &Sender<String>, ended: &Sender<Result<(), String>>) {
        let (mut pause, mut failed, mut refused) = (Duration::ZERO, false, None);
        loop {
            match ends.recv_timeout(pause) {
                // Nobody waits any more if it took too long.
                Ok(status) => return drop(ended.send(refused.map_or_else(|| self.end(status), Err))),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let Err(failure) = (if refused.is_some() { Ok(()) } else { self.send() }) else {
                pause = PAUSE;
                continue;
            };
            if !failed {
                let address = self.client.address();
                let _ = warnings.send(format!("MLflow at {address}: {failure}; training goes on"));
            }
            (failed, pause) = (true, (2 * pause).clamp(PAUSE, LONGEST));
            refused = Some(failure).filter(|f| matches!(f, Failure::Refused(..))).map(|f| f.to_string());
        }
    }

    fn end(&mut self, status: Status) -> Result<(), String> {
        let status = match status {
            Status::Finished => "FINISHED",
            Status::Interrupted => "KILLED",
            Status::Diverged | Status::Failed => "FAILED",
            Status::Running => "RUNNING",
        };
        let ended = self.send().and_then(|()| self.client.update(&self.sent.run, status, Some(now())));
        ended.map_err(|failure| failure.to_string())
    }

    /// Sends everything new.
    fn send(&mut self) -> Result<(), Failure> {
        self.begin()?;
        while let Some(batch) = self.next_batch()? {
            // What cannot be sent stays for the next attempt.
            let batch = self.unsent.insert(batch);
            self.client.log_metrics(&self.sent.run, &batch.metrics)?;
            self.sent.place = batch.end;
            self.unsent = None;
            self.save()?;
        }
        Ok(())
    }

    /// The next metrics, the last of which are about speed.
    fn next_batch(&mut self) -> Result<Option<Batch>, Failure> {
        if let Some(batch) = self.unsent.take() {
            return Ok(Some(batch));
        }
        let read = self.tail.next_batch();
        let mut batch = read.map_err(|e| Failure::Unreachable(format!("metrics.jsonl cannot be read: {e}")))?;
        let value = f64::from_bits(self.throughput.load(Ordering::Relaxed));
        if let Some(batch) = batch.as_mut().filter(|_| value > 0.0 && value.is_finite()) {
            let (key, step) = ("images_per_second".into(), batch.end.step);
            batch.metrics.push(Metric { key, value, timestamp: now(), step });
        }
        Ok(batch)
    }

    /// Creates the run on the server, or tells it that the run goes on.
    fn begin(&mut self) -> Result<(), Failure> {
        if self.begun {
            return Ok(());
        }
        let Described { experiment, name, start, tags, parameters } = &self.described;
        if self.sent.run.is_empty() {
            let experiment = self.client.experiment(experiment)?;
            self.sent.run = self.client.create_run(&experiment, name, *start, tags)?;
            self.save()?;
        } else {
            self.client.update(&self.sent.run, "RUNNING", None)?;
        }
        if !self.sent.parameters {
            self.client.log_parameters(&self.sent.run, parameters)?;
            self.sent.parameters = true;
            self.save()?;
        }
        self.begun = true;
        Ok(())
    }

    fn save(&self) -> Result<(), Failure> {
        let fail = |error: String| Failure::Unreachable(format!("mlflow.json cannot be written: {error}"));
        let bytes = serde_json::to_vec_pretty(&self.sent).map_err(|e| fail(e.to_string()))?;
        write_atomic(&self.folder.join("mlflow.json"), &bytes).map_err(|e| fail(e.to_string()))
    }
}
