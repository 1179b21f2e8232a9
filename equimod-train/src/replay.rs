//! Replay of a diverged step from the folder that the guard wrote.

use std::path::Path;

use candle_core::{DType, Device};
use equimod_core::checkpoint::{from_bytes, load_strict, read_folder};
use equimod_core::model::{MODEL_FILE, TARGET_FILE};
use equimod_core::optim::squared_norm;
use equimod_core::{
    Description, Execution, Method, Mode, ParamStore, Placement, Precision, Progress, SingleProcess, StepBatch,
};
use serde::Serialize;

use crate::evidence::{BATCH_FILE, EVIDENCE_FILE, Evidence};
use crate::tensors::{from_tensors, step_batch};
use crate::{Error, Result};

/// A method with the weights and the batch of a diverged step.
pub struct Replay {
    evidence: Evidence,
    method: Method,
    batch: StepBatch,
}

/// Outcome of a replayed step.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayOutcome {
    /// Record of the step from the run.
    pub evidence: Evidence,
    /// Loss and named scalars, as text because JSON cannot express NaN and infinity.
    pub metrics: Vec<(String, String)>,
    /// Names of the weights and running statistics with non-finite values before the step.
    pub broken_weights: Vec<String>,
    /// Norm of each tensor's gradient, as text; non-finite norms first, then the largest.
    pub gradient_norms: Vec<(String, String)>,
}

impl Replay {
    /// Reads the folder `diverged/step-…` of a run. With `dtype` f64, the replay shows whether precision is to blame.
    ///
    /// # Errors
    ///
    /// If the folder is not one of a diverged step, or a file in it does not verify.
    pub fn load(folder: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let files = read_folder(folder)?;
        let bytes = |name: &str| {
            let text = format!("{} holds no {name}; give a folder diverged/step-… of a run", folder.display());
            files.get(name).map(Vec::as_slice).ok_or(Error::RunDirectory(text))
        };
        let unreadable = |e: serde_json::Error| {
            Error::RunDirectory(format!("{} cannot be read ({e}); use a matching version", folder.display()))
        };
        let evidence: Evidence = serde_json::from_slice(bytes(EVIDENCE_FILE)?).map_err(unreadable)?;
        let path = folder.join(MODEL_FILE);
        let model = from_bytes(bytes(MODEL_FILE)?, &path, device)?;
        let description: Description =
            serde_json::from_str(model.description.as_deref().unwrap_or_default()).map_err(unreadable)?;
        let placement = Placement {
            seed: evidence.seed,
            dtype,
            device,
            image_size: description.preprocessing.size,
            collective: SingleProcess::shared(),
            execution: Execution {
                parts: evidence.parts,
                winograd: evidence.winograd,
                // In f64 the replay shows whether precision is to blame.
                precision: if dtype == DType::F64 { Precision::F32 } else { evidence.precision },
                ..Execution::default()
            },
        };
        let method = Method::new(&description.method, &description.parameters, placement)?;
        load_strict(method.params(), &model.tensors, &path)?;
        if let Some(target) = method.target() {
            let path = folder.join(TARGET_FILE);
            load_strict(target.params(), &from_bytes(bytes(TARGET_FILE)?, &path, device)?.tensors, &path)?;
        }
        let tensors = from_bytes(bytes(BATCH_FILE)?, &folder.join(BATCH_FILE), &Device::Cpu)?.tensors;
        let batch = from_tensors(&tensors, evidence.epoch, evidence.batch)?;
        let batch =
            step_batch(&batch, &description.preprocessing.normalization, [device; 2], [method.compute_dtype(), dtype])?;
        Ok(Self { evidence, method, batch })
    }

    /// Repeats the step up to its gradients. The target network is in its state at that step: it had already been
    /// updated.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn run(self) -> Result<ReplayOutcome> {
        let Self { evidence, method, batch } = self;
        let broken_weights = broken(method.params())?;
        let progress = Progress { step: evidence.step, total: evidence.total_steps };
        let outcome = method.gradients(&batch, progress, Mode::Train)?;
        let values = outcome.read()?;
        let mut metrics = vec![("loss".to_owned(), values.loss.to_string())];
        metrics.extend(values.metrics.into_iter().map(|(name, value)| (name, value.to_string())));
        let mut norms = Vec::new();
        for (name, gradient) in outcome.gradients.iter() {
            norms.push((name.to_owned(), squared_norm(gradient)?.sqrt()));
        }
        let rank = |norm: f64| if norm.is_finite() { norm } else { f64::INFINITY };
        norms.sort_by(|a, b| rank(b.1).total_cmp(&rank(a.1)));
        let gradient_norms = norms.into_iter().map(|(name, norm)| (name, norm.to_string())).collect();
        Ok(ReplayOutcome { evidence, metrics, broken_weights, gradient_norms })
    }
}

/// Names of the tensors with non-finite values.
fn broken(params: &ParamStore) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, slot) in params.iter().filter(|(_, slot)| slot.var.dtype().is_float()) {
        if !squared_norm(slot.var.as_tensor())?.is_finite() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
