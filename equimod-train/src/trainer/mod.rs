//! The trainer of a recipe: its parts, their assembly from a recipe, and the training loop.

mod assembly;
mod training_loop;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use equimod_core::optim::Schedule;
use equimod_core::{
    Description, Method, Optimizer, Parameters, Preprocessing, Progress, SharedCollective, SingleProcess,
};
use equimod_data::{Loader, ParamLayout, Policy};

use crate::pending::PendingSteps;
use crate::probe::Best;
use crate::recipe::Recipe;
use crate::run_dir::RunInfo;
use crate::speed::Pace;

/// Device, processes and threads of a run, and the flag that stops it, as one process has them.
pub struct TrainContext {
    /// Device of all tensors.
    pub device: Device,
    /// The processes that train together.
    pub collective: SharedCollective,
    /// Number of threads that make batches; it does not affect results.
    pub loader_threads: usize,
    /// Flag that stops the run after the current step, on all processes; it may be set from any thread.
    pub stop: Arc<AtomicBool>,
    /// Version of the program, written into checkpoints and `run.json`.
    pub version: String,
}

impl TrainContext {
    /// Context of a single process whose stop flag is not shared.
    pub fn alone(device: Device, loader_threads: usize, version: &str) -> Self {
        let (collective, stop) = (SingleProcess::shared(), Arc::default());
        Self { device, collective, loader_threads, stop, version: version.into() }
    }
}

/// Reason why [`Trainer::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// The stop flag was set; a checkpoint was saved.
    Interrupted,
}

/// A run of a recipe: the method with its weights, the optimizer, the loader, and the position in the run.
pub struct Trainer {
    pub(crate) recipe: Recipe,
    pub(crate) context: TrainContext,
    pub(crate) method: Method,
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) loader: Loader,
    policy: Policy,
    layout: ParamLayout,
    /// Layout of the vectors from view to view, if the method needs them.
    pairs: Option<ParamLayout>,
    parameters: Parameters,
    pub(crate) fingerprint: String,
    pub(crate) step: u64,
    /// Steps whose loss and metrics are still on the device.
    pub(crate) pending: PendingSteps,
    pub(crate) best: Option<Best>,
    /// Indices of the images that did not decode and are already in `skipped.jsonl`; `None` until the first one.
    pub(crate) skipped: Option<BTreeSet<usize>>,
    pub(crate) pace: Pace,
}

impl Trainer {
    /// Number of optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.recipe.schedule.epochs * self.steps_per_epoch()
    }

    /// Number of batches in an epoch.
    pub(crate) fn steps_per_epoch(&self) -> u64 {
        self.loader.batches() as u64
    }

    /// Number of optimizer steps so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Position of the next step in the run.
    pub(crate) fn progress(&self) -> Progress {
        Progress { step: self.step, total: self.total_steps() }
    }

    /// Learning rate of the next step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.recipe.learning_rates(self.steps_per_epoch()).rate(self.step)
    }

    /// The recipe of the run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The method in training: backbone, objective and modules, with their current weights.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Loader of the training batches.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Augmentation policy of the views.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Names and statistics of the values in the parameter vectors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// SHA-256 of the training data, in hexadecimal; a resumed run requires the same one.
    pub fn data_fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Average throughput of the last call of [`run`](Self::run).
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The best probe so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Contents of `run.json` for a new run. Command line, host and device are left empty for the caller.
    pub fn info(&self) -> RunInfo {
        RunInfo {
            version: self.context.version.clone(),
            seed: self.recipe.seed,
            data_fingerprint: self.fingerprint.clone(),
            ..RunInfo::default()
        }
    }

    /// Description of the model, written into every checkpoint next to the weights.
    pub fn description(&self) -> Description {
        Description {
            version: self.context.version.clone(),
            method: self.recipe.method(),
            preprocessing: Preprocessing {
                size: self.recipe.augmentation.size,
                normalization: self.recipe.normalization,
            },
            parameters: self.parameters.clone(),
            augmentation: serde_json::json!({ "policy": self.policy, "layout": self.layout, "pairs": self.pairs }),
            target: false,
            step: self.step,
            seed: self.recipe.seed,
        }
    }
}
