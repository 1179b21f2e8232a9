//! The baseline of a run: the same images, batches and seed without the losses of the equivariance modules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bundled::RECIPES;
use crate::recipes::built_in;
use anyhow::Context;
use equimod_core::ObjectiveConfig;
use equimod_train::run_dir::is_run;
use equimod_train::{Ending, Recipe, RunInfo, Status, changes, resolve};

use super::Setup;
use crate::outputs::console;
use crate::process::exit::{self, Usage};
use crate::run::baseline::{self, FOLDER, weighted_modules};

/// The built-in recipe whose runs have a baseline without being asked.
const DEFAULT: &str = "quick";

/// The end of a baseline.
pub enum Baseline {
    /// The run is evaluated alone.
    None,
    /// It was trained into this folder.
    Trained(PathBuf),
    /// A signal stopped it.
    Interrupted,
}

impl Setup {
    /// Refuses a baseline where there can be none.
    ///
    /// # Errors
    ///
    /// If one is asked for, and the recipe has nothing to compare with, nothing is evaluated, or several processes train.
    pub fn check_baseline(&self) -> anyhow::Result<()> {
        match self.obstacle().filter(|_| self.arguments.baseline) {
            Some(reason) => Err(Usage(format!("--baseline is not possible: {reason}")).into()),
            None => Ok(()),
        }
    }

    /// Whether a baseline is trained after the run.
    pub fn wants_baseline(&self) -> bool {
        let is_possible = !self.is_baseline && !self.arguments.no_baseline && self.obstacle().is_none();
        is_possible && (self.arguments.baseline || is_default(&self.recipe))
    }

    /// Reason why there can be no baseline.
    fn obstacle(&self) -> Option<&'static str> {
        match &self.recipe.objective {
            _ if weighted_modules(&self.recipe).is_empty() => Some("the recipe has no module with a loss of its own"),
            ObjectiveConfig::None(_) => {
                Some("without the module's loss, nothing is trained: the objective is \"none\"")
            }
            _ if self.arguments.no_eval => Some("it is trained for the evaluation, which --no-eval skips"),
            _ if self.launch.processes() > 1 => {
                Some("several processes train one run; start another one with equivariance.NAME.weight=0")
            }
            _ => None,
        }
    }

    /// Trains the baseline of the run, as far as an earlier call did not. One that is finished stays part of the
    /// results.
    ///
    /// # Errors
    ///
    /// If training fails. A baseline that diverges is reported and left out.
    pub fn train_baseline(&self, run: &Path) -> anyhow::Result<Baseline> {
        if self.arguments.no_baseline {
            return Ok(Baseline::None);
        }
        let folder = run.join(FOLDER);
        let status = is_run(&folder).then(|| RunInfo::read(&folder)).transpose()?;
        if status.as_ref().is_some_and(|info| info.status == Status::Finished) {
            return Ok(Baseline::Trained(folder));
        }
        if self.obstacle().is_some() {
            return Ok(Baseline::None);
        }
        // One that was begun was asked for.
        let was_begun = self.arguments.resume && status.is_some();
        if !self.wants_baseline() && !was_begun {
            return Ok(Baseline::None);
        }
        if status.is_none() && folder.exists() {
            // A call that was killed before its first file was whole left it.
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let mut setup = self.of_baseline(&folder, status.is_some())?;
        if status.is_none() {
            // A resumed run does not name the weights that it began from.
            setup.arguments.from = RunInfo::read(run)?.from.map(|from| from.model.into());
        }
        let setup = Arc::new(setup);
        match setup.train_quietly() {
            Ok(Ending::Finished) => Ok(Baseline::Trained(folder)),
            Ok(Ending::Interrupted) => {
                baseline::add(&run.display().to_string()).note("stopped in the baseline; go on with: ");
                Ok(Baseline::Interrupted)
            }
            Err(error) if exit::code_of(&error) == exit::DIVERGED => {
                console::note(&format!("the baseline diverged, and is left out: {error}"));
                Ok(Baseline::None)
            }
            Err(error) => Err(error.context("the baseline failed")),
        }
    }

    /// Everything that the baseline's run needs.
    fn of_baseline(&self, folder: &Path, resume: bool) -> anyhow::Result<Self> {
        let modules = weighted_modules(&self.recipe);
        let mut arguments = self.arguments.clone();
        (arguments.out, arguments.resume, arguments.profile) = (Some(folder.into()), resume, None);
        let settings: Vec<String> = modules.iter().map(|name| format!("equivariance.{name}.weight=0.0")).collect();
        let mut recipe = resolve(&RECIPES, "the baseline", &self.recipe.to_toml(), &settings)?;
        recipe.about = format!("the baseline, without the loss of {}", modules.join(" and "));
        Ok(Self {
            arguments,
            launch: self.launch.clone(),
            devices: self.devices.clone(),
            asked: recipe.to_toml(),
            recipe,
            dataset: self.dataset.clone(),
            stop: self.stop.clone(),
            watcher: None,
            is_baseline: true,
        })
    }
}

/// Whether a recipe is the default one, whatever the seed, the machine and the logs.
fn is_default(recipe: &Recipe) -> bool {
    let Ok(default) = built_in(DEFAULT, &[]) else { return false };
    let free = ["seed", "execution.", "log"];
    changes(&default, recipe).iter().all(|change| free.iter().any(|prefix| change.setting.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_run_has_a_baseline_and_others_have_one_on_request() {
        let of = |settings: &[&str]| is_default(&built_in(DEFAULT, settings).unwrap());
        assert!(of(&[]) && of(&["seed=3", "log.csv=true", "execution.recompute=true"]));
        assert!(!of(&["schedule.epochs=3"]) && !of(&["equivariance.equimod.weight=0.0"]));
        assert!(!is_default(&built_in("quick-byol", &[]).unwrap()));
    }
}
