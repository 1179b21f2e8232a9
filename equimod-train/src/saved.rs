//! Contents of checkpoints: saving, resuming, and starting from the weights of another model.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use equimod_core::checkpoint::{from_bytes, load_strict, read_folder, to_bytes};
use equimod_core::model::{MODEL_FILE, TARGET_FILE};
use equimod_core::{Description, Model};
use serde::{Deserialize, Serialize};

use crate::changes::decisive;
use crate::probe::Best;
use crate::recipe::Recipe;
use crate::run_dir::{RESOLVED, RunDirectory};
use crate::trainer::Trainer;
use crate::{Error, Result};

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";

/// State of a run in a checkpoint, besides tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedState {
    step: u64,
    recipe: Recipe,
    data_fingerprint: String,
    #[serde(default)]
    best: Option<Best>,
}

/// Weights that a run starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialWeights {
    /// Names of the loaded tensors.
    pub loaded: Vec<String>,
    /// Names of the tensors with random initial values.
    pub random: Vec<String>,
}

impl InitialWeights {
    /// Summary in one sentence.
    pub fn summary(&self) -> String {
        let backbone = self.loaded.iter().filter(|name| name.starts_with("backbone.")).count();
        let mut text = format!("{backbone} tensors of the backbone loaded");
        let heads = self.loaded.len() - backbone;
        // Writing to a string does not fail.
        let _ = match (heads, self.random.as_slice()) {
            (0, []) => Ok(()),
            (0, fresh) => write!(text, ", {} of heads start randomly", fresh.len()),
            (_, []) => write!(text, ", and all {heads} of heads"),
            (_, [first, ..]) => {
                write!(text, ", and {heads} of heads; {} start randomly ({first}, …)", self.random.len())
            }
        };
        text
    }
}

impl Trainer {
    /// Network that a checkpoint of the current step would contain.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    pub fn model(&self) -> Result<Model> {
        let bytes = to_bytes(&self.method.params().tensors(""), &described(&self.description())?)?;
        Ok(Model::from_bytes(&bytes, Path::new("the network in training"), &self.context.device)?)
    }

    /// Loads the weights of another model: its backbone, which must match, and those heads that match.
    ///
    /// # Errors
    ///
    /// If the backbone does not match, or a tensor operation fails.
    pub fn begin_from(&mut self, model: &Model) -> Result<InitialWeights> {
        let bare = model.method().is_none();
        let named = |name: String| if bare { format!("backbone.{name}") } else { name };
        let tensors: BTreeMap<_, _> = model.params().tensors("").into_iter().map(|(n, t)| (named(n), t)).collect();
        let mut found = InitialWeights::default();
        for (name, slot) in self.method.params().iter() {
            let fits = tensors.get(name).is_some_and(|tensor| tensor.dims() == slot.var.dims());
            if fits { &mut found.loaded } else { &mut found.random }.push(name.to_owned());
        }
        if let Some(missing) = found.random.iter().find(|name| name.starts_with("backbone.")) {
            let text = format!(
                "the backbone of {} is not this recipe's: it has no {missing} of this shape; choose [backbone] as \
                 `equimod inspect` shows it, or give --recipe the recipe.resolved.toml of its run",
                model.path.display()
            );
            return Err(Error::Recipe(vec![text]));
        }
        // These settings do not change shapes, but change the network that the weights define.
        let (theirs, ours) = (model.backbone_config()?, &self.recipe.backbone);
        let (theirs, ours) = (theirs.settings().describe(), ours.settings().describe());
        if theirs != ours {
            let text = format!(
                "the backbone of {} is a {theirs}, that of this recipe a {ours}; choose [backbone] as it is there, or \
                 give --recipe the recipe.resolved.toml of its run",
                model.path.display()
            );
            return Err(Error::Recipe(vec![text]));
        }
        for (name, slot) in self.method.params().iter() {
            if let Some(tensor) = tensors.get(name).filter(|tensor| tensor.dims() == slot.var.dims()) {
                slot.var.set(&tensor.to_dtype(slot.var.dtype())?.to_device(slot.var.device())?.copy()?)?;
            }
        }
        // The target network starts equal to the trained one.
        for (name, slot) in self.method.target().iter().flat_map(|target| target.params().iter()) {
            if let Some(own) = self.method.params().get(name) {
                slot.var.set(&own.var.as_tensor().copy()?)?;
            }
        }
        Ok(found)
    }

    pub(crate) fn weights(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut files = vec![
            (MODEL_FILE, to_bytes(&self.method.params().tensors(""), &described(&self.description())?)?),
            (OPTIMIZER_FILE, to_bytes(&self.optimizer.state(), "{}")?),
        ];
        if let Some(target) = self.method.target() {
            let description = described(&Description { target: true, ..self.description() })?;
            files.push((TARGET_FILE, to_bytes(&target.params().tensors(""), &description)?));
        }
        Ok(files)
    }

    /// Writes a checkpoint, and removes those that need not be kept.
    pub(crate) fn save(&self, run: &RunDirectory) -> Result<()> {
        let _checkpoint = tracing::trace_span!("checkpoint").entered();
        let Self { step, recipe, best, fingerprint, .. } = self;
        let state =
            SavedState { step: *step, recipe: recipe.clone(), data_fingerprint: fingerprint.clone(), best: *best };
        let mut files = self.weights()?;
        files.push((STATE_FILE, json(&state)?));
        // The weights have been read: what they come from has to be complete.
        self.context.collective.check().map_err(equimod_core::Error::from)?;
        run.save(*step, &files)?;
        run.point_to_best(best.as_ref())?;
        let every = recipe.checkpoint.keep_every_epochs * self.steps_per_epoch();
        run.prune(recipe.checkpoint.keep, |step| {
            best.is_some_and(|best| best.step == step) || (every > 0 && step.is_multiple_of(every))
        })
    }

    /// Loads the newest checkpoint of `run` that can be verified, and returns the reasons why newer ones were skipped.
    /// A run without a checkpoint starts from the beginning. With several processes, all call this; the number of
    /// processes may be another than before.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, the recipe or the images differ from those of the run, or no checkpoint is intact.
    pub fn resume(&mut self, run: &RunDirectory) -> Result<Vec<String>> {
        if !self.context.collective.is_first() {
            // The first process removes incomplete checkpoints.
            self.wait_for_all()?;
            return self.restore_newest(run);
        }
        run.clean_up()?;
        let skipped = self.restore_newest(run)?;
        run.point_to_best(self.best.as_ref())?;
        self.wait_for_all()?;
        Ok(skipped)
    }

    fn restore_newest(&mut self, run: &RunDirectory) -> Result<Vec<String>> {
        let mut skipped = Vec::new();
        for folder in run.checkpoints()? {
            match read_folder(&folder) {
                Ok(files) => {
                    self.restore(run, &files, &folder)?;
                    return Ok(skipped);
                }
                Err(error) => skipped.push(error.to_string()),
            }
        }
        if skipped.is_empty() {
            return Ok(skipped);
        }
        let reasons = skipped.join("; ");
        Err(Error::RunDirectory(format!(
            "{} has no complete checkpoint to go on from: {reasons}",
            run.path().display()
        )))
    }

    fn restore(&mut self, run: &RunDirectory, files: &BTreeMap<String, Vec<u8>>, folder: &Path) -> Result<()> {
        let file = |name: &str| {
            let missing = || Error::RunDirectory(format!("{} holds no {name}", folder.display()));
            files.get(name).map(Vec::as_slice).ok_or_else(missing)
        };
        let state: SavedState = serde_json::from_slice(file(STATE_FILE)?)
            .map_err(|e| Error::RunDirectory(format!("{}: {STATE_FILE} cannot be read: {e}", folder.display())))?;
        let changed = decisive(&state.recipe, &self.recipe);
        if !changed.is_empty() {
            let text = format!(
                "a resumed run keeps its settings, but these differ: {}; begin a new run with --recipe {} --from {} and \
                 these settings",
                changed.join(", "),
                run.path().join(RESOLVED).display(),
                folder.display()
            );
            return Err(Error::Recipe(vec![text]));
        }
        if state.data_fingerprint != self.fingerprint {
            return Err(self.other_images(run, folder, &state.data_fingerprint));
        }
        let device = &self.context.device;
        let path = folder.join(MODEL_FILE);
        load_strict(self.method.params(), &from_bytes(file(MODEL_FILE)?, &path, device)?.tensors, &path)?;
        if let Some(target) = self.method.target() {
            let path = folder.join(TARGET_FILE);
            load_strict(target.params(), &from_bytes(file(TARGET_FILE)?, &path, device)?.tensors, &path)?;
        }
        let path = folder.join(OPTIMIZER_FILE);
        self.optimizer.load_state(from_bytes(file(OPTIMIZER_FILE)?, &path, device)?.tensors)?;
        (self.step, self.best) = (state.step, state.best);
        Ok(())
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::RunDirectory(e.to_string()))
}

fn described(description: &Description) -> Result<String> {
    serde_json::to_string(description).map_err(|e| Error::RunDirectory(e.to_string()))
}
