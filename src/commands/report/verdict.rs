//! The verdict of a report on one run, and the commands that follow.

use equimod_eval::ResultRow;
use equimod_eval::verdict::{MOST_SENTENCES, Verdict, verdict};
use equimod_train::Status;

use super::Run;
use super::several::of_several;
use crate::commands::eval::after_evaluation;
use crate::outputs::suggestion::Suggestion;
use crate::run::again::find_rate_by_files;
use crate::run::baseline::weighted_modules;
use crate::run::facts::training_facts;
use crate::run_state::{is_killed, status};

/// The verdict on one run or several, and the commands that follow.
pub fn of(runs: &[Run]) -> (Vec<String>, Vec<Suggestion>) {
    match runs {
        [one] => of_one(one),
        several => of_several(several),
    }
}

/// The verdict on all evaluations of a run, and the commands that follow.
fn of_one(run: &Run) -> (Vec<String>, Vec<Suggestion>) {
    let (folder, steps) = (&run.folder, run.metrics.steps());
    // Nothing trained a predictor whose loss has no weight.
    let has_predictor = !weighted_modules(&run.recipe).is_empty();
    let is_judged = |row: &&ResultRow| has_predictor || !row.is_of_predictor();
    let results: Vec<ResultRow> = run.results.iter().filter(is_judged).cloned().collect();
    let (said, next) = match run.info.status {
        Status::Finished => {
            let facts = training_facts(folder, &run.recipe, steps).ok();
            let Verdict { sentences, advice } = verdict(&results, facts.as_ref());
            let next = after_evaluation(advice, folder, None, &results);
            return (sentences, next);
        }
        Status::Diverged => {
            let text = "Training diverged: the learning rate is too high, or training is unstable.";
            (text.to_owned(), find_rate_by_files(folder))
        }
        Status::Running if !is_killed(folder, &run.info) => {
            (format!("The run goes on: so far, it has {steps} steps."), None)
        }
        _ => {
            let resume = Suggestion::new(["pretrain", "--resume", "--out", &folder.display().to_string()]);
            let resume = resume.with(run.info.command.iter().filter(|argument| *argument == "--baseline"));
            let status = status(folder, &run.info);
            (format!("The run was not finished ({status}): it has {steps} steps."), Some(resume))
        }
    };
    // What the metrics so far say about training is no judgement of the whole run.
    let sentences = verdict(&results, None).sentences;
    (std::iter::once(said).chain(sentences).take(MOST_SENTENCES).collect(), next.into_iter().collect())
}
