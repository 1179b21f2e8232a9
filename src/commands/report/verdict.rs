//! The verdict of a report on one run, and the commands that follow.

use equimod_eval::verdict::{Advice, MOST_SENTENCES, Verdict, verdict};
use equimod_train::Status;

use super::Run;
use super::several::of_several;
use crate::commands::eval::after_evaluation;
use crate::outputs::suggestion::Suggestion;
use crate::run::again::{find_rate_by_files, longer_by_files};
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
    let (said, next) = match run.info.status {
        Status::Finished => {
            let facts = training_facts(folder, &run.recipe, steps).ok();
            let Verdict { sentences, advice } = verdict(&run.results, facts.as_ref());
            let is_too_short = facts.is_some_and(|facts| facts.is_too_short());
            let is_other = !advice.is_some_and(Advice::is_on_schedule);
            let longer = (is_too_short && is_other).then(|| longer_by_files(folder)).flatten();
            let next = after_evaluation(advice, folder, None, &run.results).into_iter().chain(longer);
            return (sentences, next.collect());
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
    let sentences = verdict(&run.results, None).sentences;
    (std::iter::once(said).chain(sentences).take(MOST_SENTENCES).collect(), next.into_iter().collect())
}
