//! The command that follows a transfer evaluation.

use std::path::PathBuf;

use equimod_eval::suite::SuiteTask;

use crate::cli::Transfer;
use crate::outputs::suggestion::Suggestion;
use crate::run::again::compare;
use crate::run::{baseline, seeds};

/// The command that follows a transfer evaluation: one with more to compare with, or the comparison of the two models with
/// the highest `means` on the images of the first `task`.
pub fn after_transfer(arguments: &Transfer, means: &[f64], task: &SuiteTask) -> Vec<Suggestion> {
    let Transfer { models, untrained, .. } = arguments;
    let baselines =
        models.iter().filter_map(|model| baseline::finished(model)).filter(|baseline| !models.contains(baseline));
    let baselines: Vec<String> = baselines.map(|baseline| baseline.display().to_string()).collect();
    let next = match (&models[..], baselines.len()) {
        ([_], _) if !untrained => Some(Suggestion::again().with(["--untrained"])),
        (_, 1..) => Some(Suggestion::again().with(baselines).about("also the same without the module's loss")),
        ([_, _, ..], 0) => {
            let mut order: Vec<(&f64, &PathBuf)> = means.iter().zip(models).collect();
            order.sort_by(|a, b| b.0.total_cmp(a.0));
            let pairs = seeds::with_others([1, 0].map(|place| order[place].1.as_path()));
            let test = task.test.iter().flat_map(|test| ["--test", test]);
            let over = if pairs.len() > 2 { format!(" and {} seeds", pairs.len() / 2) } else { String::new() };
            let about = format!("tested on paired images of the first task{over}");
            Some(compare(&pairs, Some(&task.data)).with(test).about(&about))
        }
        _ => None,
    };
    next.into_iter().collect()
}
