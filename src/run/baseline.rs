//! The baseline of a run: where it is, and which runs can have one.

use std::path::{Path, PathBuf};

use equimod_eval::ResultRow;
use equimod_train::run_dir::is_run;
use equimod_train::{Recipe, RunInfo, Status, settings};

use crate::outputs::suggestion::Suggestion;

/// Name of the baseline's folder in the run directory.
pub const FOLDER: &str = "baseline";

/// Run directory of the baseline of a run, if there is one.
pub fn of(run: &Path) -> Option<PathBuf> {
    Some(run.join(FOLDER)).filter(|baseline| is_run(baseline))
}

/// [`of`], if its training has ended.
pub fn finished(run: &Path) -> Option<PathBuf> {
    let ended = |baseline: &PathBuf| RunInfo::read(baseline).is_ok_and(|info| info.status == Status::Finished);
    of(run).filter(ended)
}

/// The run that the folder of a baseline belongs to.
pub fn run_of(baseline: &Path) -> Option<&Path> {
    let run = baseline.parent().filter(|_| baseline.ends_with(FOLDER));
    run.filter(|run| is_run(run))
}

/// Whether a run was begun with the option for a baseline.
pub fn was_asked_for(info: &RunInfo) -> bool {
    info.command.iter().any(|argument| argument == "--baseline")
}

/// The command that trains the baseline of a finished run, beside it.
pub fn add(run: &str) -> Suggestion {
    Suggestion::new(["pretrain", "--out", run, "--resume", "--baseline"])
}

/// The verdict on a predictor that nothing trains.
pub const UNTRAINED_PREDICTOR: &str = "The module's loss has no weight, so this run did not train its predictor: \
                                       what it predicts says nothing about the module.";

/// The rows that a verdict on a run with this recipe is on: without those of a predictor that nothing trained, because its
/// loss has no weight. The second value says so, if there are any.
pub fn judged(recipe: &Recipe, rows: &[ResultRow]) -> (Vec<ResultRow>, Option<&'static str>) {
    let is_untrained = weighted_modules(recipe).is_empty();
    let judged: Vec<ResultRow> = rows.iter().filter(|row| !(is_untrained && row.is_of_predictor())).cloned().collect();
    let said = (judged.len() < rows.len()).then_some(UNTRAINED_PREDICTOR);
    (judged, said)
}

/// Names of the modules whose loss has a weight other than 0.
pub fn weighted_modules(recipe: &Recipe) -> Vec<&str> {
    let settings = settings(recipe);
    let weighs = |name: &str| {
        let weight = settings.get(&format!("equivariance.{name}.weight"));
        weight.is_some_and(|weight| weight.parse() != Ok(0.0))
    };
    recipe.equivariance.on().into_iter().map(|(name, _)| name).filter(|name| weighs(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::built_in;

    #[test]
    fn only_modules_with_a_weight_have_a_baseline() {
        let of = |name: &str, settings: &[&str]| {
            let recipe = built_in(name, settings).unwrap();
            weighted_modules(&recipe).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of("quick", &["equivariance.augself.hidden=[8]"]), ["equimod", "augself"]);
        assert!(of("quick", &["equivariance.equimod=false"]).is_empty());
        assert!(of("quick", &["equivariance.equimod.weight=0.0"]).is_empty());
        // The conditional predictor is a part of the objective.
        let conditional = ["equivariance.equimod=false", "equivariance.conditional.parameter_head=8 bn"];
        assert!(of("quick-byol", &conditional).is_empty());
    }
}
