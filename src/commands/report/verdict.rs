//! The verdict of a report on one run, and the commands that follow.

use equimod_eval::verdict::{MOST_SENTENCES, Verdict, unfinished, verdict};

use super::Run;
use super::several::of_several;
use crate::commands::eval::{Kept, after_evaluation};
use crate::outputs::suggestion::Suggestion;
use crate::run::baseline::judged;
use crate::run::facts::training_facts;

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
    let (results, untrained) = judged(&run.recipe, &run.results);
    let facts = training_facts(folder, &run.recipe, steps).ok();
    let state = facts.as_ref().and_then(unfinished);
    // What the metrics so far say about training is no judgement of the whole run.
    let Verdict { sentences, advice } = verdict(&results, facts.as_ref().filter(|_| state.is_none()));
    let next = after_evaluation(advice, folder, &Kept::default(), &results);
    let first = state.into_iter().chain(untrained.map(str::to_owned));
    (first.chain(sentences).take(MOST_SENTENCES).collect(), next)
}
