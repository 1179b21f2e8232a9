//! The baseline of a run: the same images, batches and seed without the losses of the equivariance modules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use equimod::bundled::RECIPES;
use equimod::recipes::built_in;
use equimod_core::ObjectiveConfig;
use equimod_train::{Ending, Error, Recipe, RunInfo, Status, changes, resolve};

use super::Setup;
use crate::outputs::console;
use crate::process::exit::Usage;

/// Name of the baseline's folder in the run directory.
pub const FOLDER: &str = "baseline";

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
    /// If the recipe has nothing to compare with, or several processes train.
    pub fn check_baseline(&self) -> anyhow::Result<()> {
        let problem = match &self.recipe.objective {
            _ if !self.arguments.baseline => return Ok(()),
            ObjectiveConfig::None(_) => "without the module's loss, nothing is trained: the objective is \"none\"",
            _ if self.arguments.no_eval => "it is trained for the evaluation, which --no-eval skips",
            _ if self.launch.processes() > 1 => "several processes train one run; start another one with weight=0",
            _ => return Ok(()),
        };
        Err(Usage(format!("--baseline is not possible: {problem}")).into())
    }

    /// Trains the baseline of the run, as far as an earlier call did not. `modules` are the names of its equivariance
    /// modules.
    ///
    /// # Errors
    ///
    /// If training fails. A baseline that diverges is reported and left out.
    pub fn train_baseline(&self, run: &Path, modules: &[String]) -> anyhow::Result<Baseline> {
        if !self.wants_baseline(modules) {
            return Ok(Baseline::None);
        }
        let folder = run.join(FOLDER);
        let status = folder.join("run.json").is_file().then(|| RunInfo::read(&folder)).transpose()?;
        if status.as_ref().is_some_and(|info| info.status == Status::Finished) {
            return Ok(Baseline::Trained(folder));
        }
        if status.is_none() && folder.exists() {
            // A call that was killed before its first file was whole left it.
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let setup = Arc::new(self.of_baseline(&folder, modules, status.is_some())?);
        match setup.train_quietly() {
            Ok(Ending::Finished) => Ok(Baseline::Trained(folder)),
            Ok(Ending::Interrupted) => {
                let run = run.display();
                console::note(&format!(
                    "stopped in the baseline; go on with: equimod pretrain --out {run} --resume --baseline"
                ));
                Ok(Baseline::Interrupted)
            }
            Err(error) if matches!(error.downcast_ref(), Some(Error::Diverged { .. })) => {
                console::note(&format!("the baseline diverged, and is left out: {error}"));
                Ok(Baseline::None)
            }
            Err(error) => Err(error.context("the baseline failed")),
        }
    }

    fn wants_baseline(&self, modules: &[String]) -> bool {
        let possible = !modules.is_empty() && !self.arguments.no_eval && self.launch.processes() == 1;
        let wanted = self.arguments.baseline || (is_default(&self.recipe) && !self.arguments.no_baseline);
        possible && wanted && !matches!(self.recipe.objective, ObjectiveConfig::None(_))
    }

    /// Everything that the baseline's run needs.
    fn of_baseline(&self, folder: &Path, modules: &[String], resume: bool) -> anyhow::Result<Self> {
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
        })
    }
}

/// Whether a recipe is the default one, whatever the seed and the machine.
fn is_default(recipe: &Recipe) -> bool {
    let Ok(default) = built_in(DEFAULT, &[]) else { return false };
    let same = |name: &str| name == "seed" || name == "about" || name.starts_with("execution.");
    changes(&default, recipe).iter().all(|change| same(&change.setting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_run_has_a_baseline_and_others_have_one_on_request() {
        let of = |settings: &[&str]| is_default(&built_in(DEFAULT, settings).unwrap());
        assert!(of(&[]) && of(&["seed=3"]));
        assert!(!of(&["schedule.epochs=3"]) && !of(&["equivariance.equimod.weight=0.0"]));
        assert!(!is_default(&built_in("quick-byol", &[]).unwrap()));
    }
}
