//! Evidence of a diverged step: the files that `equimod replay` needs.

use equimod_core::checkpoint::{commit_folder, to_bytes};
use equimod_core::{Execution, Precision};
use serde::{Deserialize, Serialize};

use crate::pending::Divergence;
use crate::run_dir::RunDirectory;
use crate::saved::json;
use crate::tensors::to_tensors;
use crate::trainer::Trainer;
use crate::{Error, Result};

/// Folder of diverged steps in a run directory.
const FOLDER: &str = "diverged";
pub(crate) const BATCH_FILE: &str = "batch.safetensors";
pub(crate) const EVIDENCE_FILE: &str = "diverged.json";

/// Record of a diverged step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Number of the step whose update was not applied, from 0.
    pub step: u64,
    /// Number of steps of the whole run.
    pub total_steps: u64,
    /// Epoch of the batch, from 0.
    pub epoch: u64,
    /// Index of the batch in its epoch, from 0.
    pub batch: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Number of parts in which the batch went through the backbone.
    pub parts: usize,
    /// Whether the CPU's convolutions used Winograd's algorithm.
    #[serde(default = "by_default")]
    pub winograd: bool,
    /// Element type of the backbone's computation.
    #[serde(default)]
    pub precision: Precision,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Name of the non-finite quantity.
    pub what: String,
    /// Loss and named scalars of the step, as text because JSON cannot express NaN and infinity.
    pub metrics: Vec<(String, String)>,
}

fn by_default() -> bool {
    Execution::default().winograd
}

impl Trainer {
    /// Writes the evidence of a diverged step, and returns the error that ends the run. Weights are those before the
    /// step.
    pub(crate) fn keep_evidence(&mut self, run: &RunDirectory, divergence: Divergence) -> Error {
        // Later steps, up to the one at which the divergence was read, changed nothing.
        let (step, what) = (divergence.report.step, divergence.what.clone());
        self.step = step - 1;
        let bundle = run.path().join(FOLDER).join(RunDirectory::name_of(step));
        let is_first = self.context.collective.is_first();
        let written = if is_first { self.evidence(run, divergence) } else { Ok(()) };
        match written.and_then(|()| self.wait_for_all()) {
            Ok(()) => Error::Diverged { step, what, bundle },
            Err(error) => error,
        }
    }

    /// Writes the whole batch, whatever the number of processes, because one replays it.
    fn evidence(&self, run: &RunDirectory, Divergence { report, what }: Divergence) -> Result<()> {
        let batch = self.loader().whole_batch(self.step)?.finished()?;
        let mut metrics = vec![("loss".to_owned(), report.loss.to_string())];
        metrics.extend(report.metrics.into_iter().map(|(name, value)| (name, value.to_string())));
        let evidence = Evidence {
            step: self.step,
            total_steps: report.total_steps,
            epoch: batch.epoch,
            batch: batch.index,
            seed: self.recipe.seed,
            parts: self.recipe.execution.parts,
            winograd: self.recipe.execution.winograd,
            precision: self.recipe.execution.precision,
            learning_rate: report.learning_rate,
            what,
            metrics,
        };
        let mut files = self.weights()?;
        files.push((BATCH_FILE, to_bytes(&to_tensors(&batch)?, "{}")?));
        files.push((EVIDENCE_FILE, json(&evidence)?));
        // Steps count from 1 in messages and metrics.
        commit_folder(&run.path().join(FOLDER), &RunDirectory::name_of(self.step + 1), &files)?;
        Ok(())
    }
}
