//! The command that follows an evaluation.

use std::path::{Path, PathBuf};

use equimod_core::ObjectiveConfig;
use equimod_eval::ResultRow;
use equimod_eval::verdict::Advice;
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{RunInfo, recorded};

use crate::cli::Transfer;
use crate::outputs::suggestion::Suggestion;
use crate::run::again::{longer_by_files, lower_by_files, with_seed};
use crate::run::baseline::{self, weighted_modules};
use crate::run::seeds;

/// Pairs of runs, one of each seed, that are enough to say whether their difference lasts.
const ENOUGH_PAIRS: usize = 3;

/// The commands that follow a comparison of pairs of runs: the same comparison over all seeds that were trained, training
/// with another seed, or, of enough pairs, the page with their curves and settings.
pub fn after_comparison(models: &[PathBuf]) -> Vec<Suggestion> {
    let infos: Option<Vec<RunInfo>> = models.iter().map(|model| RunInfo::read(model).ok()).collect();
    let Some(infos) = infos else { return Vec::new() };
    let [first, second] = [&models[0], &models[1]].map(PathBuf::as_path);
    // A run trains its baseline along.
    let has_baseline = |run: &Path| baseline::of(run).is_some_and(|baseline| models[..2].contains(&baseline));
    let run = [first, second].into_iter().find(|run| has_baseline(run));
    let pairs = run.map_or_else(|| seeds::matched([first, second]), seeds::pairs);
    if pairs.len() > models.len() {
        let given: Vec<String> = models.iter().map(|model| model.display().to_string()).collect();
        let compare = Suggestion::again_without(&given).with(pairs.iter().map(|run| run.display().to_string()));
        return vec![compare.about(&format!("tested over {} seeds", pairs.len() / 2))];
    }
    if models.len() / 2 >= ENOUGH_PAIRS {
        let report = Suggestion::new(["report"]).with(models.iter().map(|model| model.display().to_string()));
        return vec![report.about("curves, settings and results of all")];
    }
    // Both runs of a pair have the same seed.
    let seed = seeds::next_seed(run.map_or_else(|| vec![first, second], |run| vec![run]));
    let trained = [first, second].into_iter().zip(&infos).filter(|(one, _)| run.is_none_or(|run| run == *one));
    trained.map(|(run, info)| with_seed(run, info, seed)).collect()
}

/// The command that follows a transfer evaluation: one with more to compare with, or the comparison of two models on
/// `data`, the images of the first task.
pub fn after_transfer(arguments: &Transfer, data: &str) -> Vec<Suggestion> {
    let Transfer { models, untrained, .. } = arguments;
    let baseline = models.iter().find_map(|model| baseline::of(model)).filter(|baseline| !models.contains(baseline));
    let next = match (&models[..], baseline) {
        ([_], _) if !untrained => Some(Suggestion::again().with(["--untrained"])),
        (_, Some(baseline)) => {
            let again = Suggestion::again().with([baseline.display().to_string()]);
            Some(again.about("also the baseline without the module's loss"))
        }
        ([first, second, ..], None) => {
            let [first, second] = [first, second].map(|model| model.display().to_string());
            let compare = Suggestion::new(["eval", "compare", &first, &second, "--data", data]);
            Some(compare.about("tested on paired images of the first task"))
        }
        _ => None,
    };
    next.into_iter().collect()
}

/// The command that answers the next question about a model that was evaluated: the same evaluation of the untrained
/// network, longer training of a run whose predictions are no use, or a comparison with the run's baseline.
///
/// `data` is the argument with the images, if there was one, and `rows` are the results.
pub fn after_evaluation(
    advice: Option<Advice>,
    model: &Path,
    data: Option<&str>,
    rows: &[ResultRow],
) -> Option<Suggestion> {
    match advice {
        Some(Advice::LowerRate) if is_run(model) => return lower_by_files(model),
        Some(Advice::EvaluateUntrained) => return Some(Suggestion::again().with(["--untrained"])),
        Some(Advice::TrainLonger) if is_run(model) => return longer_by_files(model),
        _ => {}
    }
    if let Some(baseline) = baseline::of(model) {
        let [run, baseline] = [model, &baseline].map(|folder| folder.display().to_string());
        let compare = Suggestion::new(["eval", "compare", &baseline, &run]);
        let is_knn = !rows.is_empty() && rows.iter().all(|row| row.protocol == "knn");
        let by = if is_knn { ["--by", "knn"].as_slice() } else { &[] };
        let compare = compare.with(by).with(data.into_iter().flat_map(|data| ["--data", data]));
        return Some(compare.about("whether features gain by the module, on paired images"));
    }
    let file = model.join(RESOLVED);
    let recipe = recorded(&file).ok().filter(|recipe| !matches!(recipe.objective, ObjectiveConfig::None(_)))?;
    let can_have_one = !weighted_modules(&recipe).is_empty();
    can_have_one.then(|| baseline::add(&model.display().to_string()).about("also train without the module's loss"))
}
