//! MLflow: a thread that sends the numbers of `metrics.jsonl` to a tracking server.
//!
//! The file is the queue: a step never waits for the server, and what could not be sent is sent later, at the latest
//! by a resumed run. `mlflow.json` in the run directory holds the run on the server and the place up to which it has
//! the file.

mod client;
#[cfg(test)]
mod stand_in;
mod tail;
#[cfg(test)]
mod tests;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use equimod_train::{Recipe, RunDirectory, RunInfo, Sink, Status, StepReport, settings};

use crate::outputs::suggestion::quoted;
pub use client::Client;
use client::{milliseconds, now};
use worker::{Described, Sent, Worker};

/// Longest time that the end of a run waits for the server.
const END: Duration = Duration::from_secs(15);

/// A run that is sent to MLflow.
pub struct Mlflow {
    end: Sender<Status>,
    ended: Receiver<Result<(), String>>,
    address: String,
    folder: PathBuf,
}

/// Sink beside the thread: it passes on throughput, and hands over warnings.
pub struct MlflowSink {
    throughput: Arc<AtomicU64>,
    warnings: Receiver<String>,
}

impl Mlflow {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If `mlflow.json` is damaged, or no thread can be started.
    pub fn start(
        client: Client,
        run: &RunDirectory,
        info: &RunInfo,
        recipe: &Recipe,
    ) -> anyhow::Result<(Self, MlflowSink)> {
        let (folder, sent) = (run.path().to_owned(), Sent::read(run.path())?);
        let (address, throughput) = (client.address().to_owned(), Arc::<AtomicU64>::default());
        let worker = Worker::new(client, describe(run, info, recipe), &folder, sent, throughput.clone());
        let ((end, ends), (warn, warnings), (report, ended)) = (channel(), channel(), channel());
        thread::Builder::new().name("mlflow".into()).spawn(move || worker.work(&ends, &warn, &report))?;
        Ok((Self { end, ended, address, folder }, MlflowSink { throughput, warnings }))
    }

    /// Sends the rest and the status of the run; gives a message if the server lacks anything.
    pub fn finish(self, status: Status) -> Option<String> {
        let told = self.end.send(status).is_ok();
        let ended = if told { self.ended.recv_timeout(END).ok() } else { None };
        let reason = match ended {
            Some(Ok(())) => return None,
            Some(Err(reason)) => reason,
            None => format!("no answer within {} s", END.as_secs()),
        };
        let step = Sent::read(&self.folder).unwrap_or_default().place.step;
        let (address, folder) = (&self.address, quoted(&self.folder.display().to_string()));
        Some(format!(
            "MLflow at {address} lacks the end of the run and the metrics after step {step} ({reason}); send them \
             with: equimod pretrain --out {folder} --resume"
        ))
    }
}

/// The run as the server is to show it.
fn describe(run: &RunDirectory, info: &RunInfo, recipe: &Recipe) -> Described {
    let git = info.git.as_ref();
    let tags = [
        ("mlflow.source.name", Some("equimod".to_owned())),
        ("mlflow.source.type", Some("LOCAL".into())),
        ("mlflow.source.git.commit", git.map(|git| git.commit.clone())),
        ("mlflow.source.git.branch", git.and_then(|git| git.branch.clone())),
        ("equimod.version", Some(info.version.clone())),
        ("equimod.run", Some(run.path().display().to_string())),
        ("equimod.data_fingerprint", Some(info.data_fingerprint.clone())),
    ];
    let started = info.started.as_deref().and_then(|time| humantime::parse_rfc3339(time).ok());
    Described {
        experiment: recipe.log.mlflow.clone(),
        name: run.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        start: started.map_or_else(now, milliseconds),
        tags: tags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        parameters: settings(recipe).into_iter().map(|(name, value)| (name, unquoted(value))).collect(),
    }
}

/// A text without its quotes; an empty one keeps them, because MLflow takes no empty values.
fn unquoted(value: String) -> String {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.filter(|inner| !inner.is_empty()).map(str::to_owned).unwrap_or(value)
}

impl Sink for MlflowSink {
    fn step(&mut self, report: &StepReport) -> equimod_train::Result<()> {
        self.throughput.store(report.pace.images_per_second.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    fn warning(&mut self) -> Option<String> {
        self.warnings.try_recv().ok()
    }
}
