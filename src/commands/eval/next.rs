//! The command that follows an evaluation.

use std::path::{Path, PathBuf};

use equimod_core::ObjectiveConfig;
use equimod_eval::verdict::Advice;
use equimod_train::recorded;
use equimod_train::run_dir::RESOLVED;

use crate::run::baseline::{self, weighted_modules};

/// The command that shows two compared runs beside each other: their curves, and the settings in which they differ.
pub fn after_comparison(models: &[PathBuf]) -> Option<String> {
    let [first, second] = models else { return None };
    let are_runs = models.iter().all(|model| model.join("run.json").is_file());
    let program = std::env::args().next().filter(|_| are_runs)?;
    Some(format!("{program} report {} {}", first.display(), second.display()))
}

/// The command that answers the next question about a model that was evaluated: the same evaluation of the untrained
/// network, or, for a run, a comparison with its baseline.
pub fn after_evaluation(advice: Option<Advice>, model: &Path) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let (program, run) = (arguments.first()?, model.display());
    if advice == Some(Advice::EvaluateUntrained) {
        return Some(format!("{} --untrained", arguments.join(" ")));
    }
    if let Some(baseline) = baseline::of(model) {
        return Some(format!("{program} eval compare {} {run}", baseline.display()));
    }
    let file = model.join(RESOLVED);
    let recipe = recorded(&file).ok().filter(|recipe| !matches!(recipe.objective, ObjectiveConfig::None(_)))?;
    let can_have_one = !weighted_modules(&recipe).is_empty();
    can_have_one.then(|| format!("{program} pretrain --recipe {} --baseline", file.display()))
}
