//! Trace of the first steps of a run, in the format of chrome://tracing and Perfetto.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use equimod_train::{Result, Sink, StepReport};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sink that writes the spans of the library crates to a file until a given step.
pub struct Profile {
    writing: Option<FlushGuard>,
    last: u64,
}

impl Profile {
    /// Starts a trace that ends after step `last`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn start(path: &Path, last: u64) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let (layer, guard) = ChromeLayerBuilder::new().writer(file).include_args(true).build();
        let own = ["equimod_core", "equimod_data", "equimod_train"].map(|name| (name, LevelFilter::TRACE));
        tracing_subscriber::registry().with(layer).with(Targets::new().with_targets(own)).try_init()?;
        Ok(Self { writing: Some(guard), last })
    }
}

impl Sink for Profile {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        if report.step >= self.last {
            self.writing = None;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(writing) = &self.writing {
            writing.flush();
        }
        Ok(())
    }
}
