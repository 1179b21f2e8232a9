//! The command that follows an evaluation.

use std::path::{Path, PathBuf};

use equimod_core::ObjectiveConfig;
use equimod_eval::verdict::Advice;
use equimod_train::recorded;
use equimod_train::run_dir::{RESOLVED, is_run};

use crate::outputs::suggestion::Suggestion;
use crate::run::again::{longer_by_files, lower_by_files};
use crate::run::baseline::{self, weighted_modules};

/// The command that shows two compared runs beside each other: their curves, and the settings in which they differ.
pub fn after_comparison(models: &[PathBuf]) -> Option<Suggestion> {
    let [first, second] = models else { return None };
    let are_runs = models.iter().all(|model| is_run(model));
    let report = || Suggestion::new(["report".into(), first.display().to_string(), second.display().to_string()]);
    are_runs.then(report)
}

/// The command that answers the next question about a model that was evaluated: the same evaluation of the untrained
/// network, longer training of a run whose predictions are no use, or a comparison with the run's baseline.
///
/// `data` is the argument with the images, if there was one.
pub fn after_evaluation(advice: Option<Advice>, model: &Path, data: Option<&str>) -> Option<Suggestion> {
    match advice {
        Some(Advice::LowerRate) if is_run(model) => return lower_by_files(model),
        Some(Advice::EvaluateUntrained) => return Some(Suggestion::again().with(["--untrained"])),
        Some(Advice::TrainLonger) if is_run(model) => return longer_by_files(model),
        _ => {}
    }
    if let Some(baseline) = baseline::of(model) {
        let [run, baseline] = [model, &baseline].map(|folder| folder.display().to_string());
        let compare = Suggestion::new(["eval", "compare", &baseline, &run]);
        let compare = compare.with(data.into_iter().flat_map(|data| ["--data", data]));
        return Some(compare.about("whether features gain by the module, on paired images"));
    }
    let file = model.join(RESOLVED);
    let recipe = recorded(&file).ok().filter(|recipe| !matches!(recipe.objective, ObjectiveConfig::None(_)))?;
    let can_have_one = !weighted_modules(&recipe).is_empty();
    can_have_one.then(|| baseline::add(&model.display().to_string()).about("also train without the module's loss"))
}
